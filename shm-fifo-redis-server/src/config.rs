//! Settings: as arguments of `loadmodule`, in redis.conf and by `CONFIG SET`.
//!
//! Values live in atomics: the server changes them on its main thread, hooks and
//! commands read them anywhere. Redis 6.2 has no settings for modules; there the
//! arguments are all there is.
#![allow(unsafe_code)]

use crate::status::{ERR, OK};
use redis_module::{Context, RedisString, raw};
use shm_fifo::vfd::{self, WaitSettings};
use shm_fifo::{WaitMode, region::RING_BYTES_RANGE};
use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// A number that is a setting.
#[derive(Debug)]
struct Number {
    name: &'static CStr,
    default: i64,
    /// In force; the default from each load of the module on.
    value: AtomicI64,
    min: i64,
    max: i64,
    /// Written with units, as `64kb`.
    is_memory: bool,
    /// What a value must be besides, and how to say that it is not.
    rule: Option<Rule>,
}

type Rule = (fn(i64) -> bool, &'static CStr);

static RING_BYTES: Number = Number {
    name: c"ring-bytes",
    default: 128 * 1024,
    value: AtomicI64::new(0),
    min: *RING_BYTES_RANGE.start() as i64,
    max: *RING_BYTES_RANGE.end() as i64,
    is_memory: true,
    rule: Some((is_power_of_two, c"shm.ring-bytes must be a power of two")),
};

static SPIN_US: Number = Number {
    name: c"spin-us",
    default: 200,
    value: AtomicI64::new(0),
    min: 0,
    max: 1_000_000,
    is_memory: false,
    rule: None,
};

static MAX_SESSIONS: Number = Number {
    name: c"max-sessions",
    default: 10_000,
    value: AtomicI64::new(0),
    min: 0,
    max: i64::MAX,
    is_memory: false,
    rule: None,
};

static MAX_MEMORY: Number = Number {
    name: c"max-memory",
    // Room for as many sessions as there may be, with rings of the default size.
    default: 3 << 30,
    value: AtomicI64::new(0),
    min: 0,
    max: i64::MAX,
    is_memory: true,
    rule: None,
};

static NUMBERS: [&Number; 4] = [&RING_BYTES, &SPIN_US, &MAX_SESSIONS, &MAX_MEMORY];

const WAIT: &CStr = c"wait";
/// The values of `shm.wait`; their place in the list is their number.
const WAIT_MODES: [(&CStr, WaitMode); 3] =
    [(c"adaptive", WaitMode::Adaptive), (c"park", WaitMode::Park), (c"spin", WaitMode::Spin)];

/// The default is the first.
static WAIT_MODE: AtomicI64 = AtomicI64::new(0);

/// What bounds the memory that clients make the server hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections on shared memory at a time; 0 moves none.
    pub(crate) max_sessions: u64,
    /// Bytes of all regions together; 0 is no limit.
    pub(crate) max_memory_bytes: u64,
}

/// Bytes of each ring of a region made now.
pub(crate) fn ring_bytes() -> usize {
    usize::try_from(RING_BYTES.get()).unwrap_or(*RING_BYTES_RANGE.start())
}

/// The limits in force.
pub(crate) fn limits() -> Limits {
    Limits {
        max_sessions: MAX_SESSIONS.get().unsigned_abs(),
        max_memory_bytes: MAX_MEMORY.get().unsigned_abs(),
    }
}

/// Takes the settings from `loadmodule`'s arguments, `name value …`, and, where
/// the server knows module settings, from redis.conf.
pub(crate) fn load(context: &Context, args: &[RedisString]) -> Result<(), String> {
    set_defaults();
    for pair in args.chunks(2) {
        let [name, value] = pair else {
            return Err(format!("the argument {} has no value", quoted(&pair[0])));
        };
        set_argument(&name.to_string_lossy(), &value.to_string_lossy())?;
    }
    if let Some(registrar) = Registrar::of(context) {
        for number in NUMBERS {
            registrar.register_number(number)?;
        }
        registrar.register_wait()?;
        registrar.load()?;
    }
    apply_wait();
    Ok(())
}

/// Forgets what an earlier load of the module set, one that failed among them: its
/// memory is that of the same library, which is never unmapped.
fn set_defaults() {
    NUMBERS.iter().for_each(|number| number.value.store(number.default, Relaxed));
    WAIT_MODE.store(0, Relaxed);
}

fn set_argument(name: &str, value: &str) -> Result<(), String> {
    // As in redis.conf, or without the module's name.
    let name = name.strip_prefix("shm.").unwrap_or(name).to_ascii_lowercase();
    if name.as_bytes() == WAIT.to_bytes() {
        let modes = WAIT_MODES.iter();
        let mode = modes
            .zip(0..)
            .find(|((text, _), _)| text.to_bytes().eq_ignore_ascii_case(value.as_bytes()));
        let (_, index) =
            mode.ok_or_else(|| format!("wait is adaptive, park or spin, not \"{value}\""))?;
        WAIT_MODE.store(index, Relaxed);
        return Ok(());
    }
    let number = NUMBERS
        .into_iter()
        .find(|number| number.name.to_bytes() == name.as_bytes())
        .ok_or_else(|| format!("there is no setting \"{name}\""))?;
    let parsed = parse_number(value, number.is_memory)
        .ok_or_else(|| format!("{name} takes a number, not \"{value}\""))?;
    number.set(parsed).map_err(|reason| reason.to_string_lossy().into_owned())
}

/// A number as in redis.conf: for memory with a unit such as `64kb`.
fn parse_number(text: &str, is_memory: bool) -> Option<i64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" if is_memory => 1000,
        "kb" if is_memory => 1024,
        "m" if is_memory => 1_000_000,
        "mb" if is_memory => 1 << 20,
        "g" if is_memory => 1_000_000_000,
        "gb" if is_memory => 1 << 30,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

fn is_power_of_two(value: i64) -> bool {
    value > 0 && value.unsigned_abs().is_power_of_two()
}

/// Makes the waiting settings those of the event loops.
fn apply_wait() {
    let index = usize::try_from(WAIT_MODE.load(Relaxed)).unwrap_or(0);
    let mode = WAIT_MODES.get(index).map_or(WaitMode::Adaptive, |(_, mode)| *mode);
    let spin_us = u32::try_from(SPIN_US.get()).unwrap_or(0);
    // Redis writes its replies just before it waits.
    vfd::configure(WaitSettings { mode, spin_us, notify_at_next_wait: true });
}

fn quoted(text: &RedisString) -> String {
    format!("\"{}\"", text.to_string_lossy())
}

impl Number {
    fn get(&self) -> i64 {
        // ORDERING, Relaxed: nothing else travels with a setting.
        self.value.load(Relaxed)
    }

    fn set(&self, value: i64) -> Result<(), CString> {
        if !(self.min..=self.max).contains(&value) {
            let name = self.name.to_string_lossy();
            let text = format!("shm.{name} must be between {} and {}", self.min, self.max);
            return Err(CString::new(text).unwrap_or_default());
        }
        if let Some((_, reason)) = self.rule.filter(|(holds, _)| !holds(value)) {
            return Err(reason.to_owned());
        }
        self.value.store(value, Relaxed);
        Ok(())
    }
}

type RegisterNumber = unsafe extern "C" fn(
    *mut raw::RedisModuleCtx,
    *const c_char,
    c_longlong,
    u32,
    c_longlong,
    c_longlong,
    raw::RedisModuleConfigGetNumericFunc,
    raw::RedisModuleConfigSetNumericFunc,
    raw::RedisModuleConfigApplyFunc,
    *mut c_void,
) -> c_int;

type RegisterEnum = unsafe extern "C" fn(
    *mut raw::RedisModuleCtx,
    *const c_char,
    c_int,
    u32,
    *mut *const c_char,
    *const c_int,
    c_int,
    raw::RedisModuleConfigGetEnumFunc,
    raw::RedisModuleConfigSetEnumFunc,
    raw::RedisModuleConfigApplyFunc,
    *mut c_void,
) -> c_int;

type LoadConfigs = unsafe extern "C" fn(*mut raw::RedisModuleCtx) -> c_int;

/// The module API's settings, which Redis has since 7.0.
struct Registrar<'c> {
    context: &'c Context,
    number: RegisterNumber,
    choice: RegisterEnum,
    load: LoadConfigs,
}

impl<'c> Registrar<'c> {
    /// `None` if the server has no settings for modules.
    fn of(context: &'c Context) -> Option<Self> {
        // SAFETY: set by the server before the module's own code runs.
        let number = unsafe { raw::RedisModule_RegisterNumericConfig }?;
        // SAFETY: as above.
        let choice = unsafe { raw::RedisModule_RegisterEnumConfig }?;
        // SAFETY: as above.
        let load = unsafe { raw::RedisModule_LoadConfigs }?;
        Some(Self { context, number, choice, load })
    }

    fn register_number(&self, number: &'static Number) -> Result<(), String> {
        let flags = if number.is_memory { raw::REDISMODULE_CONFIG_MEMORY } else { 0 };
        let privdata: *const Number = number;
        // SAFETY: a live context, a C string that the server copies, functions of
        // the right signatures, and a static for them to work on.
        let registered = unsafe {
            (self.number)(
                self.context.ctx,
                number.name.as_ptr(),
                number.get(),
                config_flags(flags.into()),
                number.min,
                number.max,
                Some(get_number),
                Some(set_number),
                Some(apply),
                privdata.cast_mut().cast(),
            )
        };
        accepted(registered, number.name)
    }

    fn register_wait(&self) -> Result<(), String> {
        let mut names = WAIT_MODES.map(|(name, _)| name.as_ptr());
        let values = [0, 1, 2];
        // SAFETY: as in `register_number`; the server copies names and values.
        let registered = unsafe {
            (self.choice)(
                self.context.ctx,
                WAIT.as_ptr(),
                c_int::try_from(WAIT_MODE.load(Relaxed)).unwrap_or(0),
                config_flags(raw::REDISMODULE_CONFIG_DEFAULT.into()),
                names.as_mut_ptr(),
                values.as_ptr(),
                3,
                Some(get_wait),
                Some(set_wait),
                Some(apply),
                null_mut(),
            )
        };
        accepted(registered, WAIT)
    }

    fn load(&self) -> Result<(), String> {
        // SAFETY: a live context, after all settings were registered.
        let loaded = unsafe { (self.load)(self.context.ctx) };
        if loaded == OK {
            return Ok(());
        }
        Err("a setting in redis.conf has a value that is not allowed".into())
    }
}

fn config_flags(flags: u64) -> u32 {
    u32::try_from(flags).unwrap_or(0)
}

fn accepted(result: c_int, name: &CStr) -> Result<(), String> {
    if result == OK {
        return Ok(());
    }
    Err(format!("the server refused the setting shm.{}", name.to_string_lossy()))
}

/// # Safety
/// `privdata` is a `&'static Number`, as registered.
unsafe fn number_of(privdata: *mut c_void) -> &'static Number {
    // SAFETY: the caller's contract.
    unsafe { &*privdata.cast_const().cast() }
}

unsafe extern "C" fn get_number(_name: *const c_char, privdata: *mut c_void) -> c_longlong {
    // SAFETY: registered with a number.
    unsafe { number_of(privdata) }.get()
}

unsafe extern "C" fn set_number(
    _name: *const c_char,
    value: c_longlong,
    privdata: *mut c_void,
    error: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: registered with a number.
    match unsafe { number_of(privdata) }.set(value) {
        Ok(()) => OK,
        Err(reason) => {
            // SAFETY: the server frees the string it is given.
            unsafe { set_error(error, &reason) };
            ERR
        }
    }
}

/// # Safety
/// `error` is where the server wants the reason, or null.
unsafe fn set_error(error: *mut *mut raw::RedisModuleString, reason: &CStr) {
    // SAFETY: set by the server before it calls any function of the module.
    let Some(create) = (unsafe { raw::RedisModule_CreateString }) else { return };
    if !error.is_null() {
        // SAFETY: without a context the string belongs to whoever holds it.
        let text = unsafe { create(null_mut(), reason.as_ptr(), reason.to_bytes().len()) };
        // SAFETY: the caller's contract, and not null.
        unsafe { error.write(text) };
    }
}

unsafe extern "C" fn get_wait(_name: *const c_char, _privdata: *mut c_void) -> c_int {
    c_int::try_from(WAIT_MODE.load(Relaxed)).unwrap_or(0)
}

unsafe extern "C" fn set_wait(
    _name: *const c_char,
    value: c_int,
    _privdata: *mut c_void,
    _error: *mut *mut raw::RedisModuleString,
) -> c_int {
    WAIT_MODE.store(value.into(), Relaxed);
    OK
}

unsafe extern "C" fn apply(
    _context: *mut raw::RedisModuleCtx,
    _privdata: *mut c_void,
    _error: *mut *mut raw::RedisModuleString,
) -> c_int {
    apply_wait();
    OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_written_as_in_redis_conf() {
        assert_eq!(parse_number("65536", true), Some(65_536));
        assert_eq!(parse_number("64kb", true), Some(65_536));
        assert_eq!(parse_number("1Gb", true), Some(1 << 30));
        assert_eq!(parse_number("64kb", false), None);
        assert_eq!(parse_number("kb", true), None);
        assert_eq!(parse_number("9223372036854775807gb", true), None);
    }

    #[test]
    fn the_default_limits_fit_each_other() {
        let region_bytes = 4096 + 2 * RING_BYTES.default;
        assert!(MAX_SESSIONS.default * region_bytes <= MAX_MEMORY.default);
    }

    #[test]
    fn arguments_are_checked_and_errors_name_the_setting() {
        assert_eq!(set_argument("ring-bytes", "128kb"), Ok(()));
        assert_eq!(ring_bytes(), 131_072);
        let errors = [
            ("ring-bytes", "100000", "shm.ring-bytes must be a power of two"),
            ("ring-bytes", "64", "shm.ring-bytes must be between 4096 and 1073741824"),
            ("shm.spin-us", "soon", "spin-us takes a number, not \"soon\""),
            ("wait", "sleep", "wait is adaptive, park or spin, not \"sleep\""),
            ("wat", "1", "there is no setting \"wat\""),
        ];
        for (name, value, expected) in errors {
            assert_eq!(set_argument(name, value), Err(expected.to_owned()));
        }
    }
}
