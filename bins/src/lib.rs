//! What the programs share: command lines, configuration, rendering, progress, signals, exit codes.
//!
//! The programs use svckit's public interface only; each is: parse, one call, render, exit.

pub mod app;
pub mod backup;
pub mod cli;
pub mod containers;
pub mod ctl;
pub mod demo;
pub mod dirs;
pub mod error;
pub mod exit;
pub mod lock;
pub mod manual;
pub mod progress;
pub mod publish;
pub mod render;
pub mod repair;
pub mod service;
pub mod signals;
pub mod tend;
pub mod units;
