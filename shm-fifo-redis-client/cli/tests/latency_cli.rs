//! `redis-shm latency` as programs meet it: what it measures, lines of pairs, exit
//! codes.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::latency::{
    delaying, ended, endless, figure, interrupt, latency, median_period_us, number, pairs, rows,
    run, run_well, wait_for_arrivals,
};
use support::watchdog::watched;
use tempfile::TempDir;

#[test]
fn the_figures_agree_with_another_stopwatch() {
    watched(|| {
        // Long beside what the scheduler adds here and there on a busy machine.
        let (server, arrivals) = endless(Duration::from_millis(20));
        let directory = TempDir::new().unwrap();
        let json = directory.path().join("rows.json");
        let started = Instant::now();
        let stdout = run_well(
            latency(&server.place, &["--transport", "unix", "--sample-rate", "0"])
                .args(["--samples", "100", "--json"])
                .arg(&json),
        );
        let elapsed_us = started.elapsed().as_secs_f64() * 1e6;
        drop(server);
        let line = stdout.trim_end();
        let [p50, avg, samples] = ["p50_us", "avg_us", "samples"].map(|name| figure(line, name));
        let beside = median_period_us(&arrivals);
        assert!((p50 / beside - 1.0).abs() < 0.05, "{line}, but the server saw {beside}");
        assert!(figure(line, "min_us") >= 20_000.0, "{line}");
        assert_eq!(samples, 100.0);
        let measured_us = number(&rows(&json)[0], "seconds") * 1e6;
        assert!(avg * samples <= measured_us && measured_us <= elapsed_us, "{line}");
        // What is left are round trips that warm up.
        assert!(avg * samples >= 0.9 * measured_us, "{line} within {measured_us}");
    });
}

#[test]
fn the_pause_is_between_the_samples_and_not_in_them() {
    watched(|| {
        let (server, arrivals) = endless(Duration::from_millis(1));
        let stdout = run_well(&mut latency(
            &server.place,
            &["--transport", "unix", "--sample-rate", "5000", "--samples", "100"],
        ));
        drop(server);
        let line = stdout.trim_end();
        assert!(figure(line, "min_us") >= 1000.0, "{line}");
        let between = median_period_us(&arrivals) - 5000.0;
        assert!(figure(line, "p50_us") <= between * 1.02, "{line}, {between} without the pause");
    });
}

#[test]
fn without_a_rate_it_pauses_as_redis_cli_does() {
    watched(|| {
        let (server, arrivals) = endless(Duration::ZERO);
        run_well(&mut latency(&server.place, &["--transport", "unix", "--samples", "20"]));
        drop(server);
        assert!(median_period_us(&arrivals) >= 10_000.0);
    });
}

#[test]
fn ctrl_c_before_the_end_prints_the_results_and_exits_with_130() {
    watched(|| {
        for arguments in [["--duration", "1000"], ["--samples", "1000000"]] {
            let (server, arrivals) = endless(Duration::from_millis(1));
            let mut command = latency(&server.place, &["--transport", "unix"]);
            let child = command.args(arguments).args(["--sample-rate", "0"]);
            let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            wait_for_arrivals(&arrivals, 100);
            interrupt(&child);
            let (code, stdout, stderr) = ended(child.wait_with_output().unwrap());
            assert_eq!((code, stderr.as_str()), (Some(130), "redis-shm: interrupted\n"));
            assert!(figure(stdout.trim_end(), "samples") >= 50.0, "{stdout}");
        }
    });
}

#[test]
fn the_end_of_the_server_leaves_what_was_measured() {
    watched(|| {
        let (server, _) = delaying(Duration::ZERO, 1000);
        let arguments = ["--transport", "unix", "--sample-rate", "0", "--duration", "1000"];
        let (code, stdout, stderr) = run(&mut latency(&server.place, &arguments));
        assert_eq!(code, Some(2));
        assert!(figure(stdout.trim_end(), "samples") > 900.0, "{stdout}");
        assert!(stderr.contains("PING over unix: "), "{stderr}");
    });
}

/// Each interval begins where the one before ended.
fn check_that_intervals_join(lines: &[&str]) {
    for neighbours in lines.windows(2) {
        let end = figure(neighbours[0], "start_s") + figure(neighbours[0], "seconds");
        assert!((end - figure(neighbours[1], "start_s")).abs() < 0.0021, "{neighbours:?}");
    }
}

#[test]
fn the_history_is_a_line_for_each_interval() {
    watched(|| {
        let directory = TempDir::new().unwrap();
        let json = directory.path().join("rows.json");
        let (server, _) = endless(Duration::from_millis(1));
        let stdout = run_well(
            latency(&server.place, &["--transport", "unix", "--sample-rate", "0", "--history"])
                .args(["-i", "0.1", "--samples", "300", "--json"])
                .arg(&json),
        );
        let lines: Vec<&str> = stdout.lines().collect();
        assert!(lines.len() > 1, "{stdout}");
        check_that_intervals_join(&lines);
        let intervals = &lines[..lines.len() - 1];
        assert!(intervals.iter().all(|line| figure(line, "seconds") >= 0.1), "{stdout}");
        let samples = |line: &&str| figure(line, "samples");
        assert_eq!(lines.iter().map(samples).sum::<f64>(), 300.0);
        for (row, line) in rows(&json).iter().zip(&lines) {
            assert_eq!(number(row, "samples"), figure(line, "samples"));
            let p50_us = number(row, "p50_ns") / 1000.0;
            assert!((p50_us - figure(line, "p50_us")).abs() < 0.001, "{row}, {line}");
        }
    });
}

#[test]
fn a_history_ends_well_by_ctrl_c_and_has_its_last_part() {
    watched(|| {
        let (server, arrivals) = endless(Duration::from_millis(1));
        let mut command = latency(&server.place, &["--transport", "unix", "--history"]);
        let child = command.args(["--sample-rate", "0"]).stdout(Stdio::piped()).spawn().unwrap();
        wait_for_arrivals(&arrivals, 100);
        interrupt(&child);
        let (code, stdout, _) = ended(child.wait_with_output().unwrap());
        assert_eq!((code, stdout.lines().count()), (Some(0), 1), "{stdout}");
    });
}

#[test]
fn the_buckets_of_the_distribution_hold_every_sample_where_it_belongs() {
    watched(|| {
        let directory = TempDir::new().unwrap();
        let json = directory.path().join("rows.json");
        let (server, _) = endless(Duration::from_millis(2));
        let stdout = run_well(
            latency(&server.place, &["--transport", "unix", "--sample-rate", "0", "--dist"])
                .args(["-i", "0.2", "--samples", "200", "--json"])
                .arg(&json),
        );
        let rows = rows(&json);
        assert_eq!(rows.len(), stdout.lines().count());
        for (row, line) in rows.iter().zip(stdout.lines()) {
            let buckets = row["buckets"].as_array().unwrap();
            let count = |bucket: &Value| number(bucket, "count");
            assert_eq!(buckets.iter().map(count).sum::<f64>(), number(row, "samples"));
            let below = buckets.iter().filter(|bucket| number(bucket, "from_ns") < 2e6);
            assert_eq!(below.map(count).sum::<f64>(), 0.0, "{row}");
            let text = pairs(line).last().unwrap().1.to_owned();
            let filled = buckets.iter().filter(|bucket| count(bucket) > 0.0);
            let filled: Vec<String> =
                filled.map(|bucket| format!("{}:{}", bucket["from_ns"], bucket["count"])).collect();
            assert_eq!(text, filled.join(","));
        }
    });
}

#[test]
fn views_exclude_each_other() {
    for arguments in [["--history", "--dist"], ["--compare", "--dist"], ["--compare", "--history"]]
    {
        let (code, _, stderr) = run(&mut latency("/no/server", &arguments));
        assert_eq!(code, Some(2));
        assert!(stderr.contains("cannot be used with"), "{stderr}");
    }
    let (code, _, stderr) = run(&mut latency("/no/server", &["-i", "1"]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--history") && stderr.contains("--dist"), "{stderr}");
    let (code, _, stderr) = run(&mut latency("/no/server", &["--compare", "--transport", "tcp"]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("cannot be used with"), "{stderr}");
}

#[test]
fn a_time_too_short_for_one_sample_is_an_error_that_says_so() {
    watched(|| {
        let (server, _) = endless(Duration::ZERO);
        let arguments = ["--transport", "unix", "--sample-rate", "10000000", "--duration", "0.001"];
        let (code, _, stderr) = run(&mut latency(&server.place, &arguments));
        assert_eq!(code, Some(2));
        assert!(stderr.contains("--duration is shorter than the pause"), "{stderr}");
    });
}
