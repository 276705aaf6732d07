//! A kind of sidecar, such as the manifest. Written by [`super::commit`] and [`super::destination`].

/// A kind of sidecar.
#[derive(Clone, Copy, Debug)]
pub struct Sidecar {
    /// Its suffix after the backup's key.
    pub suffix: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// The action that writes it, for messages.
    pub action: &'static str,
}
