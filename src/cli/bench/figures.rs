//! What was measured: times to figures, a table for people, JSON for machines.

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// One upload of all files.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Run {
    /// Its round, from 1.
    pub(super) round: u32,
    /// Files at a time.
    pub(super) jobs: usize,
    /// From the first connection to the last answer.
    pub(super) time: Duration,
    /// CPU time of the side that sends, while this lasted.
    pub(super) client_cpu: Duration,
    /// CPU time of the server.
    pub(super) server_cpu: Duration,
    /// How long each file took, from its begin to its durability.
    pub(super) files: Vec<Duration>,
}

/// The data set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Amount {
    /// Files.
    pub(super) files: u64,
    /// Bytes of all.
    pub(super) bytes: u64,
}

/// The runs at one number of jobs.
#[derive(Clone, PartialEq, Debug)]
struct Summary {
    jobs: usize,
    best: f64,
    /// The middle one of the times.
    median: f64,
    worst: f64,
    client_cpu: f64,
    server_cpu: f64,
    p50: Duration,
    p99: Duration,
}

/// A number of bytes in MB, for people.
pub(super) fn megabytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is rounded for people")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}

fn rate(bytes: u64, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it is rounded for people")]
    let megabytes = bytes as f64 / 1e6;
    if seconds > 0.0 {
        megabytes / seconds
    } else {
        0.0
    }
}

/// The value that `percent` of sorted values do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

/// The middle of some numbers; of the two middle ones, their mean.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    if values.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    }
}

fn summaries(runs: &[Run]) -> Vec<Summary> {
    let mut jobs: Vec<usize> = runs.iter().map(|run| run.jobs).collect();
    jobs.sort_unstable();
    jobs.dedup();
    let of = |jobs| {
        let own: Vec<&Run> = runs.iter().filter(|run| run.jobs == jobs).collect();
        let seconds = |of: fn(&Run) -> Duration| -> Vec<f64> {
            own.iter().map(|run| of(run).as_secs_f64()).collect()
        };
        let times = seconds(|run| run.time);
        let mut files: Vec<Duration> = own.iter().flat_map(|run| run.files.clone()).collect();
        files.sort_unstable();
        Summary {
            jobs,
            best: times.iter().copied().fold(f64::INFINITY, f64::min),
            worst: times.iter().copied().fold(0.0, f64::max),
            median: median(times),
            client_cpu: median(seconds(|run| run.client_cpu)),
            server_cpu: median(seconds(|run| run.server_cpu)),
            p50: percentile(&files, 50),
            p99: percentile(&files, 99),
        }
    };
    jobs.into_iter().map(of).collect()
}

/// For people: a row for each number of jobs.
pub(super) fn table(amount: Amount, runs: &[Run]) -> String {
    let mut rows = vec![
        [
            "jobs",
            "time",
            "best",
            "worst",
            "MB/s",
            "client CPU",
            "server CPU",
            "p50",
            "p99",
        ]
        .map(str::to_owned),
    ];
    for row in summaries(runs) {
        let ms = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1e3);
        let s = |seconds: f64| format!("{seconds:.2} s");
        rows.push([
            row.jobs.to_string(),
            s(row.median),
            s(row.best),
            s(row.worst),
            format!("{:.0}", rate(amount.bytes, row.median)),
            s(row.client_cpu),
            s(row.server_cpu),
            ms(row.p50),
            ms(row.p99),
        ]);
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(String::len).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..9).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:>width$}"))
            .collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", cells.join("  "));
    }
    text
}

/// For machines. Times are in seconds, rates in MB (10^6 bytes) a second.
pub(super) fn object(amount: Amount, runs: &[Run], cpus: usize) -> Value {
    let run = |run: &Run| {
        let mut files = run.files.clone();
        files.sort_unstable();
        let seconds = run.time.as_secs_f64();
        json!({
            "round": run.round,
            "jobs": run.jobs,
            "seconds": seconds,
            "mb_per_second": rate(amount.bytes, seconds),
            "client_cpu_seconds": run.client_cpu.as_secs_f64(),
            "server_cpu_seconds": run.server_cpu.as_secs_f64(),
            "file_p50_seconds": percentile(&files, 50).as_secs_f64(),
            "file_p99_seconds": percentile(&files, 99).as_secs_f64(),
        })
    };
    let summary = |row: &Summary| {
        json!({
            "jobs": row.jobs,
            "seconds": row.median,
            "best_seconds": row.best,
            "worst_seconds": row.worst,
            "mb_per_second": rate(amount.bytes, row.median),
            "client_cpu_seconds": row.client_cpu,
            "server_cpu_seconds": row.server_cpu,
            "file_p50_seconds": row.p50.as_secs_f64(),
            "file_p99_seconds": row.p99.as_secs_f64(),
        })
    };
    json!({
        "benchmark": "concurrency",
        "format": 1,
        "program": concat!("syncd ", env!("SYNCD_VERSION")),
        "processors": cpus,
        "files": amount.files,
        "bytes": amount.bytes,
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
        "summary": summaries(runs).iter().map(summary).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Amount, Run, median, megabytes, object, percentile, table};
    use std::time::Duration;

    const AMOUNT: Amount = Amount {
        files: 2,
        bytes: 30_000_000,
    };

    fn run(round: u32, jobs: usize, time: u64) -> Run {
        Run {
            round,
            jobs,
            time: Duration::from_millis(time),
            client_cpu: Duration::from_millis(500),
            server_cpu: Duration::from_millis(700),
            files: vec![Duration::from_millis(20), Duration::from_millis(time)],
        }
    }

    #[test]
    fn the_middle_and_the_tail() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 50), Duration::from_millis(50));
        assert_eq!(percentile(&sorted, 99), Duration::from_millis(99));
        assert_eq!(percentile(&sorted[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
        assert_eq!(megabytes(901_234_567), "901.2 MB");
    }

    #[test]
    fn a_row_for_each_number_of_jobs() {
        let runs = [
            run(1, 1, 1000),
            run(1, 2, 500),
            run(2, 2, 700),
            run(2, 1, 2000),
        ];
        assert_eq!(
            table(AMOUNT, &runs),
            "jobs    time    best   worst  MB/s  client CPU  server CPU    p50      p99\n   \
             1  1.50 s  1.00 s  2.00 s    20      0.50 s      0.70 s  20 ms  2000 ms\n   \
             2  0.60 s  0.50 s  0.70 s    50      0.50 s      0.70 s  20 ms   700 ms\n"
        );
        let object = object(AMOUNT, &runs, 2);
        assert_eq!(object["summary"][1]["mb_per_second"], 50.0);
        assert_eq!(object["runs"][3]["seconds"], 2.0);
        assert_eq!(object["runs"].as_array().map(Vec::len), Some(4));
    }
}
