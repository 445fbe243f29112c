//! Readiness: up is not ready. Probes, and N passes in a row on one run of the service.
