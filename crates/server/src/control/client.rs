//! The commands' half of the control socket. It blocks: a command has nothing else to do.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{Refusal, Reply, Request, Response};

/// A connection to the running service.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("the service does not run: nobody listens on {}", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket belongs to somebody else.
    #[error("the socket {} may not be used: permission denied", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The connection broke, or the service does not answer.
    #[error("the service does not answer: {0}")]
    Broken(io::Error),
    /// The answer is none.
    #[error("the service's answer is not understood: {0}")]
    Garbled(serde_json::Error),
    /// The service says no.
    #[error(transparent)]
    Refused(Refusal),
}

impl ClientError {
    /// What to do about it: one sentence, without a full stop.
    pub fn remedy(&self) -> &str {
        match self {
            Self::NotRunning { .. } => "start it with `trapez serve`, or name its data directory with --data",
            Self::Denied { .. } => "run the command as the user that runs the service",
            Self::Broken(_) => "look at the service's log, and try again",
            Self::Garbled(_) => "use the same version of trapez for the service and the commands",
            Self::Refused(refusal) => &refusal.remedy,
        }
    }
}

impl Client {
    /// Connects to the socket of a service.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            // A socket file without a listener is what a killed service leaves behind.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning {
                path: path.to_owned(),
            },
            io::ErrorKind::PermissionDenied => ClientError::Denied {
                path: path.to_owned(),
            },
            _ => ClientError::Broken(error),
        })?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(ClientError::Broken)?;
        stream
            .set_write_timeout(Some(PATIENCE))
            .map_err(ClientError::Broken)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let mut line = serde_json::to_vec(request).map_err(ClientError::Garbled)?;
        line.push(b'\n');
        self.stream
            .get_mut()
            .write_all(&line)
            .map_err(ClientError::Broken)?;
        line.clear();
        self.stream
            .read_until(b'\n', &mut line)
            .map_err(ClientError::Broken)?;
        if line.is_empty() {
            return Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&line).map_err(ClientError::Garbled)? {
            Response::Ok(reply) => Ok(reply),
            Response::Error(refusal) => Err(ClientError::Refused(refusal)),
        }
    }
}

/// How long a command waits for the service: an import of many accounts takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
