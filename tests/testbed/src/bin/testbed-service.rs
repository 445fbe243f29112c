//! The service of the test bed: see `svckit_testbed::service`.

use clap::Parser;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    svckit_testbed::service::run(&svckit_testbed::service::Options::parse())
}
