//! `svc-publish mirror`, and its other side.

use std::ffi::OsString;
use std::io::{BufReader, ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use svckit::lock::Wait;
use svckit::operation::publish::{self, Destination, Transport};
use svckit::progress::Cancel;
use svckit::publish::Comparison;
use svckit::world::wait::readable;

use super::{ENDING, render, wait};
use crate::app::App;
use crate::cli::publish::{MirrorArgs, ReceiveArgs, TransportFlags};
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::service::absolute;

pub(super) fn mirror(app: &App, args: &MirrorArgs) -> Result<Outcome, ToolError> {
    let transport = Transport {
        comparison: if args.checksum { Comparison::Content } else { Comparison::Metadata },
        allow_older: args.allow_older,
        ..transport(&args.transport, args.command_timeout)
    };
    let (context, destination) = (app.context_saying(ENDING)?, destination(&args.destination)?);
    let report = publish::mirror(&context, &absolute(&args.tree)?, &destination, &transport, wait(&args.wait))?;
    Ok(app.output.done(Outcome::Done, &report, || render::mirror(&report)))
}

pub(super) fn transport(flags: &TransportFlags, wait_max: Duration) -> Transport {
    Transport {
        ssh: flags.ssh.0.clone(),
        remote_program: flags.remote_program.clone(),
        comparison: Comparison::Metadata,
        allow_older: false,
        wait_max,
    }
}

pub(super) fn destination(text: &OsString) -> Result<Destination, ToolError> {
    let refused = |why| ToolError::usage(format!("the mirror {text:?} can't be meant"), why);
    Ok(match Destination::parse(text).map_err(|why: String| refused(why))? {
        Destination::Local(path) => Destination::Local(absolute(&path)?),
        remote => remote,
    })
}

/// Standard input until an instant or a signal: a connection that hangs must not hold the tree's lock for ever.
struct Bounded<'a> {
    until: Instant,
    cancel: &'a Cancel,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let input = std::io::stdin();
        let ready = readable(&[input.as_fd(), self.cancel.as_fd()], self.until)?;
        if ready.is_empty() || self.cancel.is_requested() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(rustix::io::read(input.as_fd(), buffer)?)
    }
}

/// Its result goes over the connection, and to nobody else.
pub(super) fn receive(app: &App, args: &ReceiveArgs) -> Result<Outcome, ToolError> {
    let context = app.context_saying(ENDING)?;
    let until = Instant::now() + args.command_timeout;
    let mut input = BufReader::new(Bounded { until, cancel: &context.cancel });
    let mut output = std::io::stdout().lock();
    publish::receive(&context, &absolute(&args.tree)?, args.allow_older, Wait::No, &mut input, &mut output)?;
    Ok(Outcome::Done)
}
