//! The results of `redis-shm latency` as others read them. Needs python3.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;
use support::latency::{endless, latency, number, rows, run, run_well};
use support::module::module;
use support::python::python;
use support::redis_server::RedisServer;
use support::watchdog::watched;
use tempfile::TempDir;

#[test]
fn csv_and_json_are_what_python_reads_and_say_the_same() {
    watched(|| {
        let directory = TempDir::new().unwrap();
        let [csv, json] = ["rows.csv", "rows.json"].map(|name| directory.path().join(name));
        for views in [&[] as &[&str], &["--history", "-i", "0.1"], &["--dist", "-i", "0.1"]] {
            let (server, _) = endless(Duration::from_micros(500));
            let mut command = latency(&server.place, &["--transport", "unix", "--csv", "--json"]);
            command.arg(&json).args(views).args(["--sample-rate", "0", "--samples", "300"]);
            fs::write(&csv, run_well(&mut command)).unwrap();
            let script = "
import csv, json, sys
table = list(csv.DictReader(open(sys.argv[1]), strict=True))
objects = json.load(open(sys.argv[2]))
assert len(table) == len(objects) > 0, (table, objects)
for line, row in zip(table, objects):
    buckets = row.pop('buckets', [])
    expected = dict(row, **{'from_%d_ns' % one['from_ns']: one['count'] for one in buckets})
    assert list(line) == list(expected), line
    assert line['transport'] == expected['transport'] == 'unix'
    for name in list(expected)[1:]:
        assert float(line[name]) == expected[name], (name, line)
print(sum(int(line['samples']) for line in table))
";
            assert_eq!(python(script, &[&csv, &json]), "300\n", "{views:?}");
        }
    });
}

/// What the format says, read without the crate that has written it.
struct Percentiles {
    /// Value, percentile, count up to there.
    lines: Vec<(f64, f64, u64)>,
    mean: f64,
    max: f64,
    total: f64,
}

impl Percentiles {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut lines = text.lines();
        let heading: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(heading, ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
        assert_eq!(lines.next(), Some(""));
        let (footer, lines): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with('#'));
        let in_footer = |name: &str| -> f64 {
            let all = footer.join(",").replace(['#', '[', ']'], ",");
            let mut fields = all.split(',').filter_map(|field| field.split_once('='));
            let (_, value) = fields.find(|(key, _)| key.trim() == name).unwrap();
            value.trim().parse().unwrap()
        };
        let line = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let percentile: f64 = fields[1].parse().unwrap();
            if percentile < 1.0 {
                let inverse: f64 = fields[3].parse().unwrap();
                assert!((inverse * (1.0 - percentile) - 1.0).abs() < 0.01, "{line}");
            } else {
                assert_eq!(fields.len(), 3, "{line}");
            }
            (fields[0].parse().unwrap(), percentile, fields[2].parse().unwrap())
        };
        Self {
            lines: lines.iter().map(line).collect(),
            mean: in_footer("Mean"),
            max: in_footer("Max"),
            total: in_footer("Total count"),
        }
    }

    /// Rising, complete, and the same as `row` says.
    fn check(&self, row: &Value) {
        assert!(self.lines.is_sorted_by(|one, next| one.0 <= next.0), "values rise");
        assert!(self.lines.is_sorted_by(|one, next| one.1 < next.1), "percentiles rise");
        assert!(self.lines.is_sorted_by(|one, next| one.2 <= next.2), "counts rise");
        let (value, percentile, count) = *self.lines.last().unwrap();
        assert_eq!((percentile, count as f64), (1.0, self.total));
        assert_eq!(number(row, "samples"), self.total);
        assert_eq!(value, self.max);
        let near = |us: f64, name: &str| {
            assert!((us * 1000.0 / number(row, name) - 1.0).abs() < 0.002, "{us}, {name}, {row}");
        };
        near(self.mean, "avg_ns");
        near(self.max, "max_ns");
        let median = self.lines.iter().find(|line| line.1 >= 0.5).unwrap();
        near(median.0, "p50_ns");
    }
}

#[test]
fn the_percentiles_are_in_the_format_of_hdr_histogram() {
    watched(|| {
        let directory = TempDir::new().unwrap();
        let [hgrm, json] = ["ping.hgrm", "rows.json"].map(|name| directory.path().join(name));
        let (server, _) = endless(Duration::from_micros(200));
        let mut command = latency(&server.place, &["--transport", "unix", "--sample-rate", "0"]);
        command.args(["--samples", "1000", "--json"]).arg(&json).arg("--hgrm").arg(&hgrm);
        run_well(&mut command);
        Percentiles::read(&hgrm).check(&rows(&json)[0]);
    });
}

#[test]
fn redis_compare_writes_the_percentiles_of_each() {
    watched(|| {
        let server = RedisServer::start(&["--loadmodule", module().to_str().unwrap()]);
        let directory = TempDir::new().unwrap();
        let [hgrm, json] = ["ping.hgrm", "rows.json"].map(|name| directory.path().join(name));
        let mut command = latency(&server.path(), &["--compare", "--samples", "200", "--hgrm"]);
        run_well(command.arg(&hgrm).arg("--json").arg(&json));
        for row in rows(&json) {
            let name = format!("ping-{}.hgrm", row["transport"].as_str().unwrap());
            Percentiles::read(&directory.path().join(name)).check(&row);
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 4);
    });
}

#[test]
fn what_cannot_be_written_is_said_before_the_work() {
    for option in ["--json", "--hgrm"] {
        let (code, stdout, stderr) =
            run(&mut latency("/no/server", &[option, "/no/such/directory/file"]));
        assert_eq!((code, stdout.as_str()), (Some(2), ""));
        assert!(stderr.contains("cannot write /no/such/directory/file"), "{stderr}");
    }
}
