//! The text format of HdrHistogram's percentile distributions, in microseconds: what
//! its plotter and many other tools read.

use crate::statistics::Series;

/// Lines for each halving of the distance to 100 %: HdrHistogram's own default.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

pub(crate) fn render(series: &Series) -> String {
    let histogram = series.histogram();
    let us = |ns: u64| ns as f64 / 1000.0;
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value = us(step.value_iterated_to());
        text += &format!("{value:>12.3} {quantile:>14.12} {count:>10}");
        // The last one is at 100 %, where that would be infinite.
        if quantile < 1.0 {
            text += &format!(" {:>14.2}", 1.0 / (1.0 - quantile));
        }
        text += "\n";
    }
    let (mean, deviation) = (histogram.mean() / 1000.0, histogram.stdev() / 1000.0);
    let sub_buckets = 2 * 10_u64.pow(u32::from(histogram.sigfig()));
    text + &format!(
        "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]\n\
         #[Max     = {:>12.3}, Total count    = {:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {:>12}]\n",
        us(histogram.max()),
        histogram.len(),
        histogram.buckets(),
        sub_buckets.next_power_of_two()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_format_of_hdr_histogram() {
        let mut series = Series::new();
        series.record(&[1_000, 1_000, 1_000, 2_000]);
        let text = render(&series);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "       1.000 0.000000000000          3           1.00");
        assert!(text.contains("\n       2.000 1.000000000000          4\n#[Mean "), "{text}");
        assert!(
            text.contains("#[Mean    =        1.250, StdDeviation   =        0.433]"),
            "{text}"
        );
        assert!(
            text.contains("#[Max     =        2.000, Total count    =            4]"),
            "{text}"
        );
        assert!(text.ends_with(", SubBuckets     =         2048]\n"), "{text}");
    }
}
