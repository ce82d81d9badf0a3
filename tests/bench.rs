//! `gridseal bench` as a program sees it: it runs, checks itself, and answers in the promised shape. How fast it
//! was is of no interest here.

mod common;

use std::collections::BTreeSet;

use common::gridseal;
use serde_json::Value;

fn keys(object: &Value) -> BTreeSet<&str> {
    let object = object.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

#[test]
fn a_short_run_answers_in_the_promised_shape() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = dir.path().display().to_string();
    let (code, out, error) = gridseal(&[
        "bench",
        "--quick",
        "--seconds",
        "0.5",
        "--only",
        "batch-1-clients-1-",
        "--only",
        "batch-1000-",
        "--only",
        "sealing",
        "--dir",
        &place,
        "--json",
    ]);
    assert_eq!(code, 0, "{error}");
    let report: Value = serde_json::from_str(&out).expect("JSON and nothing else");
    assert_eq!(keys(&report), BTreeSet::from(["machine", "floor", "workloads"]));
    let workloads = report["workloads"].as_array().expect("a list");
    assert_eq!(workloads.len(), 4, "{report}");
    for workload in workloads {
        assert_eq!(
            keys(workload),
            BTreeSet::from([
                "name",
                "batch",
                "clients",
                "settlements_per_s",
                "ack_p50_us",
                "ack_p99_us",
                "ack_p999_us",
                "cpu_s_per_million",
                "bytes_written_per_settlement",
                "peak_rss_bytes",
                "fsyncs",
            ])
        );
        for (key, value) in workload.as_object().expect("an object") {
            assert_eq!(value.is_string(), key == "name", "{key}: {value}");
        }
        let number = |key: &str| workload[key].as_f64().expect("a number");
        assert!(number("settlements_per_s") > 0.0, "{workload}");
        assert!(
            number("ack_p50_us") > 0.0 && number("ack_p50_us") <= number("ack_p99_us"),
            "{workload}"
        );
        assert!(number("peak_rss_bytes") > 1e6, "{workload}");
        // A settlement that is acknowledged is on two disks at least.
        assert!(number("fsyncs") >= 2.0, "{workload}");
    }
    assert!(
        report["floor"]["single_record_bound_us"]
            .as_f64()
            .expect("a number")
            > 0.0
    );
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("the directory").collect();
    assert!(left.is_empty(), "nothing is left behind: {left:?}");
}

#[test]
fn a_workload_that_does_not_exist_is_said() {
    let (code, _, error) = gridseal(&["bench", "--only", "no-such-workload"]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("--list"), "{error}");
}
