//! The service's half of the control socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::protocol::{Refusal, RefusalKind, Reply, Request, Response};

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; several may be under way at a time.
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send + '_>>;
}

/// A bound control socket. Its file goes when it is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: StdListener,
    path: PathBuf,
}

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// A service answers on it.
    #[error("a service runs already: it answers on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The operating system refuses it.
    #[error("the control socket {} cannot be made: {source}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl SocketError {
    /// What to do about it: one sentence, without a full stop.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "stop the other service, or name another data directory with --data",
            Self::Refused { .. } => {
                "name a data directory with --data that this user may write and whose path is shorter than 90 bytes"
            }
        }
    }
}

impl ControlSocket {
    /// Makes the socket with mode 0600, in place of one that a killed service left behind.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let refused = |source| SocketError::Refused {
            path: path.to_owned(),
            source,
        };
        match StdStream::connect(path) {
            Ok(_) => {
                return Err(SocketError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(refused)?;
            }
            Err(_) => {}
        }
        let listener = StdListener::bind(path).map_err(refused)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers until it is dropped; to be called within a tokio runtime.
    pub async fn serve(self, handler: Arc<dyn Handler>) -> io::Result<()> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        let places = Arc::new(Semaphore::new(MAX_CLIENTS));
        loop {
            // Never closed, so that there is always a place in the end.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return Ok(());
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let handler = Arc::clone(&handler);
                    tokio::spawn(async move {
                        // The client is gone, and nobody is left to be told.
                        let _ = converse(stream, &*handler).await;
                        drop(place);
                    });
                }
                // Out of descriptors, mostly: commands wait until there are some.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn converse(stream: UnixStream, handler: &dyn Handler) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut stream).take(MAX_REQUEST);
        let read = timeout(IDLE, bounded.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let response = match parse(&line) {
            Ok(request) => match handler.handle(request).await {
                Ok(reply) => Response::Ok(reply),
                Err(refusal) => Response::Error(refusal),
            },
            Err(refusal) => Response::Error(refusal),
        };
        let mut answer = serde_json::to_vec(&response)?;
        answer.push(b'\n');
        timeout(IDLE, stream.write_all(&answer)).await??;
        if line.last() != Some(&b'\n') {
            // Cut at the limit: the rest of the line is no request.
            return Ok(());
        }
    }
}

fn parse(line: &[u8]) -> Result<Request, Refusal> {
    let refusal = |message: String, remedy: &str| Refusal {
        kind: RefusalKind::Protocol,
        message,
        remedy: remedy.to_owned(),
    };
    if line.last() != Some(&b'\n') {
        let message = format!("the request is cut off, or longer than {MAX_REQUEST} bytes");
        return Err(refusal(message, "import fewer accounts at a time"));
    }
    serde_json::from_slice(line).map_err(|error| {
        let message = format!("the request is not understood: {error}");
        refusal(
            message,
            "use the same version of trapez for the service and the commands",
        )
    })
}

/// Commands at a time; more wait.
const MAX_CLIENTS: usize = 16;
/// Bytes of one request: an import of some 100,000 accounts.
const MAX_REQUEST: u64 = 16 << 20;
/// How long a client may be silent.
const IDLE: Duration = Duration::from_secs(60);
/// How long to wait when the operating system has no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
