//! Moves that a server has refused since its start, as `INFO shm` counts them.

/// What a client asked wrongly is its own to know. `redis-shm doctor` asks so, too, to see what
/// the server answers.
const QUESTIONS: [&str; 2] = ["arguments", "version"];

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refusals {
    moved: u64,
    /// The most frequent ones first; none with 0.
    by_reason: Vec<(String, u64)>,
    max_sessions: u64,
    max_memory_bytes: u64,
}

impl Refusals {
    /// `None` if the module is too old to count them, or not there.
    pub(crate) fn from_info(info: &str) -> Option<Self> {
        let mut refusals = Self::default();
        let mut counts_them = false;
        for (name, value) in info.lines().filter_map(|line| line.split_once(':')) {
            let Ok(value) = value.trim().parse() else { continue };
            match name {
                "shm_total_sessions" => refusals.moved = value,
                "shm_max_sessions" => refusals.max_sessions = value,
                "shm_max_memory_bytes" => refusals.max_memory_bytes = value,
                _ => {
                    let Some(reason) = name.strip_prefix("shm_refused_") else { continue };
                    counts_them = true;
                    if value > 0 && !QUESTIONS.contains(&reason) {
                        refusals.by_reason.push((reason.to_owned(), value));
                    }
                }
            }
        }
        refusals.by_reason.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        counts_them.then_some(refusals)
    }

    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    pub(crate) fn total(&self) -> u64 {
        self.by_reason.iter().map(|(_, count)| count).sum()
    }

    /// How many of how many, and why.
    pub(crate) fn summary(&self) -> String {
        let why = |(reason, count): &(String, u64)| format!("{count} for {}", self.words(reason));
        let reasons: Vec<String> = self.by_reason.iter().map(why).collect();
        let total = self.total();
        format!(
            "{total} of {} requests to move were refused since the server's start: {}",
            total + self.moved,
            reasons.join(", ")
        )
    }

    /// What to do about the most frequent reason, if there is one.
    pub(crate) fn advice(&self) -> Option<String> {
        let (reason, _) = self.by_reason.first()?;
        let raise = |setting: &str, limit: u64| {
            let twice = limit.max(1).saturating_mul(2);
            format!("if that still grows, raise it: CONFIG SET shm.{setting} {twice}")
        };
        Some(match reason.as_str() {
            "max_sessions" => raise("max-sessions", self.max_sessions),
            "max_memory" => raise("max-memory", self.max_memory_bytes),
            "switched_off" => format!("switch it on: {SWITCH_ON}"),
            "system" => "see the server's log, which says what it lacks".to_owned(),
            "client_list" => "do not rename CLIENT in redis.conf".to_owned(),
            "remote" => "run these clients on the server's own machine".to_owned(),
            "encrypted" => "have them connect by unix socket or plain TCP".to_owned(),
            other => format!("see shm_refused_{other} in docs/deployment.md"),
        })
    }

    fn words(&self, reason: &str) -> String {
        match reason {
            "max_sessions" => format!("shm.max-sessions (now {})", self.max_sessions),
            "max_memory" => format!("shm.max-memory (now {})", self.max_memory_bytes),
            "switched_off" => "shm.max-sessions 0".to_owned(),
            "system" => "want of memory or file descriptors".to_owned(),
            "client_list" => "a renamed CLIENT command".to_owned(),
            "remote" => "coming from another machine".to_owned(),
            "encrypted" => "TLS".to_owned(),
            other => format!("\"{other}\""),
        }
    }
}

/// How to switch shared memory on again.
pub(crate) const SWITCH_ON: &str = "CONFIG SET shm.max-sessions 10000 (on Redis 6.2 an argument \
                                    of loadmodule)";

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# shm\r\nshm_version:0.1.0\r\nshm_max_sessions:78\r\n\
                        shm_max_memory_bytes:3221225472\r\nshm_total_sessions:78\r\n\
                        shm_refused_max_sessions:120\r\nshm_refused_system:2\r\n\
                        shm_refused_remote:0\r\nshm_refused_version:9\r\n";

    #[test]
    fn it_is_said_how_many_of_how_many_and_why_and_what_to_do() {
        let refusals = Refusals::from_info(INFO).expect("counters");
        assert_eq!(refusals.total(), 122);
        assert_eq!(
            refusals.summary(),
            "122 of 200 requests to move were refused since the server's start: 120 for \
             shm.max-sessions (now 78), 2 for want of memory or file descriptors"
        );
        let advice = refusals.advice().expect("advice");
        assert_eq!(advice, "if that still grows, raise it: CONFIG SET shm.max-sessions 156");
    }

    #[test]
    fn a_reason_of_a_newer_module_is_named() {
        let refusals = Refusals::from_info("shm_refused_weather:1\r\n").expect("a counter");
        assert!(refusals.summary().ends_with(": 1 for \"weather\""), "{}", refusals.summary());
        assert!(refusals.advice().expect("advice").contains("shm_refused_weather"));
    }

    #[test]
    fn a_module_that_does_not_count_says_nothing() {
        assert_eq!(Refusals::from_info("# shm\r\nshm_total_sessions:78\r\n"), None);
        let none = Refusals::from_info(&INFO.replace("120", "0").replace(":2\r", ":0\r"));
        let none = none.expect("counters");
        assert_eq!((none.total(), none.advice()), (0, None));
    }
}
