//! The commands as the server knows them: names, flags, documentation, ACL
//! categories.
#![allow(unsafe_code)]

use crate::status::OK;
use redis_module::{Context, raw};
use std::ffi::{CStr, c_int};
use std::mem::zeroed;
use std::ptr::null;

/// The module's version in which all commands appeared.
const SINCE: &CStr = c"0.1.0";

pub(crate) type Handler =
    extern "C" fn(*mut raw::RedisModuleCtx, *mut *mut raw::RedisModuleString, c_int) -> c_int;

/// A command and what is said of it.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static CStr,
    pub(crate) handler: Handler,
    /// As `RedisModule_CreateCommand` takes them.
    pub(crate) flags: &'static CStr,
    /// One line for `COMMAND DOCS`.
    pub(crate) summary: &'static CStr,
    pub(crate) complexity: &'static CStr,
    /// ACL categories besides `@all`, where the server lets modules have some.
    pub(crate) categories: &'static CStr,
    pub(crate) arguments: &'static [Argument],
}

/// An argument, for `COMMAND DOCS`.
#[derive(Debug)]
pub(crate) struct Argument {
    pub(crate) name: &'static CStr,
    pub(crate) kind: raw::RedisModuleCommandArgType,
    /// The word that comes before it; an argument with one is optional.
    pub(crate) token: Option<&'static CStr>,
}

impl Command {
    /// Registers the command. What only newer servers know is left out on others.
    pub(crate) fn register(&self, context: &Context) -> Result<(), String> {
        // SAFETY: set by the server before it runs the module's own code.
        let create = unsafe { raw::RedisModule_CreateCommand }.ok_or("no module API")?;
        // SAFETY: a live context and C strings; the handler has the right signature.
        let created = unsafe {
            create(
                context.ctx,
                self.name.as_ptr(),
                Some(self.handler),
                self.flags.as_ptr(),
                0,
                0,
                0,
            )
        };
        if created != OK {
            return Err(format!("the server refused the command {:?}", self.name));
        }
        // SAFETY: as above; Redis has it since 7.0.
        let Some(get) = (unsafe { raw::RedisModule_GetCommand }) else { return Ok(()) };
        // SAFETY: a live context and a C string.
        let command = unsafe { get(context.ctx, self.name.as_ptr()) };
        if command.is_null() {
            return Err(format!("the server does not find its command {:?}", self.name));
        }
        self.document(command)?;
        self.categorize(command)
    }

    fn document(&self, command: *mut raw::RedisModuleCommand) -> Result<(), String> {
        // SAFETY: as in `register`; Redis has it since 7.0.
        let Some(set_info) = (unsafe { raw::RedisModule_SetCommandInfo }) else { return Ok(()) };
        let mut arguments: Vec<_> = self.arguments.iter().map(Argument::to_raw).collect();
        // SAFETY: a plain C struct, for which zeros are valid; the list ends with one.
        arguments.push(unsafe { zeroed() });
        let version = raw::RedisModuleCommandInfoVersion {
            version: 1,
            sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
            sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
            sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
        };
        // SAFETY: a plain C struct, for which zeros are valid.
        let mut info: raw::RedisModuleCommandInfo = unsafe { zeroed() };
        info.version = &raw const version;
        info.summary = self.summary.as_ptr();
        info.complexity = self.complexity.as_ptr();
        info.since = SINCE.as_ptr();
        if !self.arguments.is_empty() {
            info.args = arguments.as_mut_ptr();
        }
        // SAFETY: the server copies all of it; it is the command's first info.
        let documented = unsafe { set_info(command, &raw const info) };
        if documented == OK {
            return Ok(());
        }
        Err(format!("the server refused the documentation of {:?}", self.name))
    }

    fn categorize(&self, command: *mut raw::RedisModuleCommand) -> Result<(), String> {
        // SAFETY: as in `register`; Redis has it since 7.2.
        let Some(set) = (unsafe { raw::RedisModule_SetCommandACLCategories }) else {
            return Ok(());
        };
        // SAFETY: a command of this module, while it is being loaded; a C string.
        if unsafe { set(command, self.categories.as_ptr()) } == OK {
            return Ok(());
        }
        Err(format!("the server refused the ACL categories of {:?}", self.name))
    }
}

impl Argument {
    fn to_raw(&self) -> raw::RedisModuleCommandArg {
        // SAFETY: a plain C struct, for which zeros are valid.
        let mut argument: raw::RedisModuleCommandArg = unsafe { zeroed() };
        argument.name = self.name.as_ptr();
        argument.type_ = self.kind;
        argument.key_spec_index = -1;
        argument.token = self.token.map_or(null(), CStr::as_ptr);
        if self.token.is_some() {
            argument.flags = OPTIONAL;
        }
        argument
    }
}

/// `REDISMODULE_CMD_ARG_OPTIONAL`.
const OPTIONAL: c_int = 1;
