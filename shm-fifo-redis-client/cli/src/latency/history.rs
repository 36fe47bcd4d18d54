//! `--history`: the figures of each interval.

use super::figures;
use super::row::Row;

const LABEL_WIDTH: usize = 10;

pub(crate) fn heading() -> String {
    figures::heading("until", LABEL_WIDTH) + "\n"
}

pub(crate) fn line(row: &Row) -> String {
    let until = format!("{:.1} s", row.start_s + row.seconds);
    figures::line(&until, LABEL_WIDTH, row) + "\n"
}

/// For programs; with `--dist` the buckets too, each by its lower end.
pub(crate) fn pairs(row: &Row) -> String {
    let mut line = figures::pairs(row);
    line += &format!(" start_s={:.3} seconds={:.3}", row.start_s, row.seconds);
    if let Some(buckets) = &row.buckets {
        let filled = buckets.iter().filter(|bucket| bucket.count > 0);
        let texts: Vec<String> =
            filled.map(|bucket| format!("{}:{}", bucket.from_ns, bucket.count)).collect();
        line += &format!(" buckets_ns={}", texts.join(","));
    }
    line + "\n"
}
