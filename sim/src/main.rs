//! `viaduct-sim`: runs seeds and says which of them broke a promise.
//!
//! In: `--seeds N`, `--first S`, or `--seed S` for one with its trace. Out: one line for each seed that failed, and a
//! summary; exit code 1 when there was any.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use viaduct_sim::{Figures, Options, run};

const HELP: &str = "cargo xtask sim [--seeds N] [--first S] [--seed S]

  --seeds N   how many seeds (1,000)
  --first S   the first of them (0)
  --seed S    one seed, with the trace of what happened
";

fn main() -> ExitCode {
    let mut seeds = 1_000;
    let mut first = 0;
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let Some(number) = arguments.next().and_then(|text| text.parse().ok()) else {
            eprintln!("{HELP}");
            return ExitCode::FAILURE;
        };
        match option.as_str() {
            "--seeds" => seeds = number,
            "--first" => first = number,
            "--seed" => return one(number),
            _ => {
                eprintln!("{HELP}");
                return ExitCode::FAILURE;
            }
        }
    }
    many(first, seeds)
}

fn one(seed: u64) -> ExitCode {
    let report = run(seed, Options { trace: true, ..Options::default() });
    for line in &report.trace {
        println!("{line}");
    }
    for violation in &report.violations {
        println!(
            "{:>10}.{:03} VIOLATION {:?}: {}",
            violation.at / 1000,
            violation.at % 1000,
            violation.promise,
            violation.what
        );
    }
    println!("{report}  ({:?}, hash {:016x})", report.figures, report.hash);
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(first: u64, seeds: u64) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(first);
    let end = first.saturating_add(seeds);
    let total = Mutex::new((0_u64, Figures::default()));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = run(seed, Options::default());
                    if !report.violations.is_empty() {
                        println!("{report}");
                    }
                    if let Ok(mut total) = total.lock() {
                        total.0 += u64::from(!report.violations.is_empty());
                        total.1 += report.figures;
                    }
                }
            });
        }
    });
    let (failed, figures) = total.into_inner().unwrap_or_default();
    println!("{seeds} seeds, {failed} failed, {:.1} s: {figures}", began.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
