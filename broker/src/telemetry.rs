//! Where events go: lines on standard error, JSON or text.
//!
//! Only events of this crate and of the enclave are logged, at any level. What
//! the libraries below would log (HTTP/2 frames, headers) may hold secrets.

use std::io;
use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

use crate::host_config::{Log, LogFormat, LogLevel};

/// Crates whose events are logged.
const TARGETS: [&str; 3] = ["broker", "enclave", "tokenkeepd"];

/// Why telemetry could not begin.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// Something else in the process takes events already.
    #[error("another subscriber is set")]
    Taken {
        /// What the library says.
        source: TryInitError,
    },
}

/// What a command that is no service says.
pub const OFFLINE: Log = Log {
    level: LogLevel::Warn,
    format: LogFormat::Text,
};

/// Sends the events of the process to standard error.
///
/// # Errors
/// [`TelemetryError::Taken`] when called twice.
pub fn init(log: Log) -> Result<(), TelemetryError> {
    subscriber(log, io::stderr)
        .try_init()
        .map_err(|source| TelemetryError::Taken { source })
}

/// What [`init`] installs, with lines going to `writer`.
pub fn subscriber<W>(log: Log, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let ours = Targets::new()
        .with_default(LevelFilter::OFF)
        .with_targets(TARGETS.map(|target| (target, level)));
    let lines = match log.format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(writer)
            .boxed(),
        LogFormat::Text => fmt::layer().with_ansi(false).with_writer(writer).boxed(),
    };
    Registry::default().with(lines.with_filter(ours))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, format: LogFormat) -> String {
        let lines = Lines::default();
        let made = lines.clone();
        let subscriber = subscriber(Log { level, format }, move || made.clone());
        tracing::subscriber::with_default(subscriber, || {
            events::clock_went_backward(7);
            events::shutdown_began();
            tracing::error!(target: "h2::codec", header = "canary");
            tracing::error!(target: "hyper", header = "canary");
        });
        String::from_utf8(lines.0.lock().clone()).unwrap()
    }

    #[test]
    fn events_are_json_objects_with_their_fields() {
        let logged = logged(LogLevel::Info, LogFormat::Json);
        let lines: Vec<&str> = logged.lines().collect();
        assert_eq!(lines.len(), 2, "{logged}");
        assert!(
            lines[0].contains(r#""level":"WARN","event":"clock_went_backward","by_s":7"#),
            "{logged}"
        );
        assert!(lines[1].contains(r#""event":"shutdown_began""#), "{logged}");
    }

    #[test]
    fn the_level_and_format_are_kept() {
        let logged = logged(LogLevel::Warn, LogFormat::Text);
        assert_eq!(logged.lines().count(), 1, "{logged}");
        assert!(
            logged.contains(r#"event="clock_went_backward" by_s=7"#),
            "{logged}"
        );
    }

    #[test]
    fn libraries_log_nothing() {
        for format in [LogFormat::Json, LogFormat::Text] {
            assert!(!logged(LogLevel::Debug, format).contains("canary"));
        }
    }
}
