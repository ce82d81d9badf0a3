//! Writes a case as TOML that [`super::parse`] reads back as the same case.

use std::fmt::Write as _;

use gridseal::falsify::{Falsify, Wrong};

use super::Case;
use crate::faults::duration::duration;
use crate::workload::Mix;

impl Case {
    /// The file.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut line = |args: std::fmt::Arguments<'_>| {
            // Writing to a string can't fail.
            let _ = writeln!(out, "{args}");
        };
        line(format_args!("title = {}", quoted(&self.title)));
        if !self.about.is_empty() {
            line(format_args!("about = {}", quoted(&self.about)));
        }
        line(format_args!(
            "seed = {}\nnodes = {}\nclients = {}",
            self.seed, self.nodes, self.clients
        ));
        line(format_args!("duration = \"{}\"", duration(self.duration_ms)));
        for (name, set) in [
            ("rough", self.rough),
            ("drawn", self.drawn),
            ("lying_disks", self.lying_disks),
        ] {
            if set {
                line(format_args!("{name} = true"));
            }
        }
        if let Some((node, Falsify { from, what })) = self.corrupt {
            let what = match what {
                Wrong::Books => "",
                Wrong::Seals => ", what = \"seals\"",
            };
            line(format_args!(
                "corrupt = {{ node = {node}, from_entry = {from}{what} }}"
            ));
        }
        if !self.mute.is_empty() {
            let keys: Vec<String> = self.mute.iter().map(|key| quoted(key)).collect();
            line(format_args!("mute = [{}]", keys.join(", ")));
        }
        if !self.expect.is_empty() {
            line(format_args!("expect = ["));
            for expect in &self.expect {
                line(format_args!("    {},", quoted(&expect.to_string())));
            }
            line(format_args!("]"));
        }
        if self.mix != Mix::default() {
            line(format_args!("\n[workload]"));
            for (name, weight) in self.mix.weights() {
                line(format_args!("{name} = {weight}"));
            }
        }
        for (at, fault) in &self.steps {
            line(format_args!("\n[[fault]]\n{}", fault.to_step(*at).trim_end()));
        }
        out
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
