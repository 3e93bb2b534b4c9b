//! Listens, and stops on a signal.

use std::io::Write;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::arguments::Serve;
use crate::failure::Failure;
use crate::service::Service;

/// How long handlers, and the connections that wait for them, may take to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn serve(options: Serve) -> Result<(), Failure> {
    // Before the line that says the service is ready, so that a signal after it stops the service gracefully.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let service = Service::open(&options).await?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
    stdout.flush()?;

    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
    });
    run(service, listener, stopped).await
}

/// Serves until `stop` says so, and then drains.
pub(crate) async fn run(
    service: Service,
    listener: TcpListener,
    stopped: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let stop = |mut stopped: watch::Receiver<bool>| async move {
        // A sender that is gone tells it, too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let serving = axum::serve(listener, service.router).with_graceful_shutdown(stop(stopped.clone()));
    let mut serving = std::pin::pin!(serving.into_future());
    tokio::select! {
        ended = &mut serving => ended?,
        () = stop(stopped) => {
            // Connections that are waiting for a handler get their answer; one that sends nothing is not waited for
            // any longer.
            if let Ok(ended) = timeout(DRAIN_WITHIN, serving).await {
                ended?;
            }
        }
    }
    // Handlers whose clients have hung up are still running.
    let _ = service.layer.shutdown(DRAIN_WITHIN).await;
    service.store.close().await;
    Ok(())
}
