//! Logging as `[log]` says: text for people, JSON for collectors, priorities for the journal.

use std::io::IsTerminal;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, reload};
use viaduct_config::{LogConfig, LogFormat};

/// Changes the filter of a running process.
pub(crate) type FilterHandle = reload::Handle<EnvFilter, tracing_subscriber::Registry>;

/// Sends everything to standard error from now on. `None` when something else has taken logging already.
pub(crate) fn start(config: &LogConfig) -> Option<FilterHandle> {
    let (filter, handle) = reload::Layer::new(filter(config));
    let registry = tracing_subscriber::registry().with(filter);
    let started = match config.format {
        LogFormat::Text => registry
            .with(
                fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(std::io::stderr().is_terminal()),
            )
            .try_init(),
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Journald => registry
            .with(
                fmt::layer()
                    .event_format(Prefixed(
                        Format::default().without_time().with_target(false).with_ansi(false).with_level(false),
                    ))
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    started.ok().map(|()| handle)
}

/// The directives; they were checked when the configuration was read.
pub(crate) fn filter(config: &LogConfig) -> EnvFilter {
    EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// A line as systemd understands it on standard error: its priority in angle brackets, and no time, which the journal
/// keeps itself.
struct Prefixed<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prefixed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let level = *event.metadata().level();
        writer.write_str(if level == Level::ERROR {
            "<3>"
        } else if level == Level::WARN {
            "<4>"
        } else if level == Level::INFO {
            "<6>"
        } else {
            "<7>"
        })?;
        self.0.format_event(context, writer, event)
    }
}
