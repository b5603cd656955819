//! The task of one connection: writes what is queued, reads into the inbox, watches the clock.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Sleep, sleep},
};

use super::{
    Id, TcpOptions,
    inbox::CloseReason,
    table::{Entry, Shared, State},
};
use crate::clock;

/// Runs until the connection ends; then it is struck out of the table.
pub(super) struct Connection<S> {
    shared: Arc<Shared>,
    id: Id,
    stream: S,
    phase: Phase,
    /// When something was last read or written.
    last_active: Instant,
    has_spoken: bool,
    alarm: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// `close` was called: writes what is left.
    Flushing,
    /// All is written and the peer was told. What it still says is thrown away: a socket closed with unread bytes sends
    /// a reset, which would overtake our last words.
    Draining,
}

impl<S> Connection<S> {
    /// A connection that a peer opened: it has to say something soon.
    pub(super) fn accepted(shared: Arc<Shared>, id: Id, stream: S) -> Self {
        Self::new(shared, id, stream, false)
    }

    /// A connection that we opened.
    pub(super) fn opened(shared: Arc<Shared>, id: Id, stream: S) -> Self {
        Self::new(shared, id, stream, true)
    }

    fn new(shared: Arc<Shared>, id: Id, stream: S, has_spoken: bool) -> Self {
        let alarm = Box::pin(sleep(idle_limit(&shared.options, has_spoken)));
        Self {
            shared,
            id,
            stream,
            phase: Phase::Open,
            last_active: clock::now(),
            has_spoken,
            alarm,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Connection<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let shared = Arc::clone(&this.shared);
        let mut state = shared.lock();
        let reason = ready!(this.drive(context, &mut state));
        state.closed(this.id, reason);
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Does what can be done now; ready with the reason when the connection is over.
    fn drive(&mut self, context: &mut Context<'_>, state: &mut State) -> Poll<CloseReason> {
        if state.is_shut_down {
            return Poll::Ready(CloseReason::Local);
        }
        let Some(entry) = state.entry(self.id) else {
            return Poll::Ready(CloseReason::Local);
        };
        entry.task = Some(context.waker().clone());
        if entry.is_overflowing {
            return Poll::Ready(CloseReason::Overflow);
        }
        if entry.is_closing && self.phase == Phase::Open {
            self.phase = Phase::Flushing;
            self.alarm = Box::pin(sleep(self.shared.options.linger));
        }
        let written = self.write(context, entry);
        if let Poll::Ready(Err(error)) = written {
            return Poll::Ready(CloseReason::Error(error));
        }
        match self.phase {
            Phase::Open => {
                if let Poll::Ready(reason) = self.read(context, state) {
                    return Poll::Ready(reason);
                }
            }
            Phase::Flushing => {
                if written.is_ready() && Pin::new(&mut self.stream).poll_shutdown(context).is_ready() {
                    self.phase = Phase::Draining;
                }
            }
            Phase::Draining => {}
        }
        if self.phase == Phase::Draining && self.drain(context).is_ready() {
            return Poll::Ready(CloseReason::Local);
        }
        self.watch(context)
    }

    /// Ready when nothing waits to be written any more.
    fn write(&mut self, context: &mut Context<'_>, entry: &mut Entry) -> Poll<io::Result<()>> {
        let mut wrote = false;
        while entry.waiting() > 0 {
            let bytes = &entry.queue[entry.written..];
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            entry.advance(count);
            wrote = true;
        }
        if wrote {
            self.last_active = clock::now();
        }
        // A bare socket has nothing to flush; a TLS stream keeps records of its own.
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Reads what is there; ready when the peer is gone.
    fn read(&mut self, context: &mut Context<'_>, state: &mut State) -> Poll<CloseReason> {
        if !state.has_room(context.waker()) {
            return Poll::Pending;
        }
        for _ in 0..READS {
            let buffer = state.inbox.buffer();
            let start = buffer.len();
            match ready!(pin!(self.stream.read_buf(buffer)).poll(context)) {
                Ok(0) => return Poll::Ready(CloseReason::Peer),
                Ok(count) => {
                    state.inbox.push_data(self.id, start..start + count);
                    state.wake_receiver();
                    self.has_spoken = true;
                    self.last_active = clock::now();
                }
                Err(error) => return Poll::Ready(CloseReason::Error(error)),
            }
        }
        // There may be more, but it is the others' turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Throws away what comes in; ready when the peer is gone.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 1024];
        for _ in 0..READS {
            match ready!(pin!(self.stream.read(&mut scratch)).poll(context)) {
                Ok(count) if count > 0 => {}
                _ => return Poll::Ready(()),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when the connection was idle or lingered for too long. The alarm is not moved with each packet: it looks
    /// when it rings.
    fn watch(&mut self, context: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            if self.phase != Phase::Open {
                return Poll::Ready(CloseReason::Local);
            }
            let limit = idle_limit(&self.shared.options, self.has_spoken);
            let idle = clock::now().saturating_duration_since(self.last_active);
            if idle >= limit {
                return Poll::Ready(CloseReason::Idle);
            }
            self.alarm = Box::pin(sleep(limit - idle));
        }
    }
}

fn idle_limit(options: &TcpOptions, has_spoken: bool) -> Duration {
    if has_spoken {
        options.idle
    } else {
        options.first_data.min(options.idle)
    }
}

/// Chunks read from one connection before the others get their turn.
const READS: usize = 4;
