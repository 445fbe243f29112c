//! The token of verification.

/// Something whose written bytes were read back and found right. Made only by verification in this module; what it
/// holds can't be changed from outside.
///
/// ```compile_fail,E0624
/// fn forge(draft: svckit::archive::Draft) -> svckit::archive::Verified<svckit::archive::Draft> {
///     svckit::archive::Verified::new(draft)
/// }
/// ```
/// ```compile_fail,E0308
/// fn publish_unverified(store: &svckit::archive::Store, draft: svckit::archive::Draft) {
///     let _ = store.publish(draft);
/// }
/// ```
/// What does compile:
/// ```
/// fn publish(store: &svckit::archive::Store, draft: svckit::archive::Verified<svckit::archive::Draft>) {
///     let _ = store.publish(draft);
/// }
/// ```
#[derive(Debug)]
#[must_use = "a verified draft is no backup until it is published"]
pub struct Verified<T> {
    inner: T,
}

impl<T> Verified<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner }
    }
    pub(super) fn into_inner(self) -> T {
        self.inner
    }
    /// What was verified.
    pub fn get(&self) -> &T {
        &self.inner
    }
}
