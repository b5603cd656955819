//! Why a command failed: a sentence, what to do about it, and the exit code.

use server::config::{LoadError, Unexplained};
use server::control::{ClientError, Refusal, RefusalKind};
use server::{ExitCode, RunError};
use store::StoreError;

/// What is printed instead of a result.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: ExitCode,
    pub(crate) message: String,
    /// Empty when the message says it already.
    pub(crate) remedy: String,
}

impl Failure {
    pub(crate) fn new(code: ExitCode, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// Prints it to standard error, and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> std::process::ExitCode {
        if json {
            let error = serde_json::json!({
                "error": { "code": self.code as u8, "message": self.message, "remedy": self.remedy }
            });
            eprintln!("{error}");
        } else if self.remedy.is_empty() {
            eprintln!("trapez: {}", self.message);
        } else {
            // A message of several lines is a list of what is wrong; what to do stands below it.
            let separator = if self.message.contains('\n') { "\n" } else { "; " };
            eprintln!("trapez: {}{separator}{}", self.message, self.remedy);
        }
        std::process::ExitCode::from(self.code as u8)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Refused(refusal) => code_of(refusal.kind),
            ClientError::NotRunning { .. } => ExitCode::NotRunning,
            _ => ExitCode::Failed,
        };
        Self::new(code, error.to_string(), error.remedy())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(code_of(refusal.kind), refusal.message, refusal.remedy)
    }
}

fn code_of(kind: RefusalKind) -> ExitCode {
    match kind {
        RefusalKind::Refused => ExitCode::Refused,
        RefusalKind::Store => ExitCode::Store,
        RefusalKind::NotRunning => ExitCode::NotRunning,
        RefusalKind::Protocol => ExitCode::Failed,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(ExitCode::Store, error.to_string(), error.remedy())
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match &error {
            LoadError::Invalid(errors) if errors.0.len() > 1 => {
                let message = format!("the configuration has {} mistakes:\n{error}", errors.0.len());
                Self::new(
                    ExitCode::Configuration,
                    message,
                    "`trapez config explain KEY` tells more about a key",
                )
            }
            _ => Self::new(ExitCode::Configuration, error.to_string(), ""),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::new(error.exit_code(), error.to_string(), error.remedy())
    }
}

impl From<Unexplained> for Failure {
    fn from(error: Unexplained) -> Self {
        Self::new(ExitCode::Refused, error.to_string(), "")
    }
}
