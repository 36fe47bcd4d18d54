//! What was measured, as it is written.

use serde::Serialize;

/// The median of all rounds for one contender and one length of messages.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "bench", rename_all = "lowercase")]
pub enum Row {
    Rtt {
        #[serde(rename = "impl")]
        name: &'static str,
        message_bytes: usize,
        p50_ns: f64,
        p99_ns: f64,
        /// `p50_ns`, by what a cache line took there and back just before and after.
        by_line: f64,
        line_ns: f64,
    },
    Stream {
        #[serde(rename = "impl")]
        name: &'static str,
        message_bytes: usize,
        messages_per_s: f64,
        gb_per_s: f64,
        line_ns: f64,
    },
}

/// The middle one of `values`, of which there is at least one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Row {
    /// What a cache line took there and back meanwhile.
    pub fn line_ns(&self) -> f64 {
        let (Self::Rtt { line_ns, .. } | Self::Stream { line_ns, .. }) = self;
        *line_ns
    }

    pub fn is_of(&self, contender: &str, length: usize) -> bool {
        let (Self::Rtt { name, message_bytes, .. } | Self::Stream { name, message_bytes, .. }) =
            self;
        *name == contender && *message_bytes == length
    }
}
