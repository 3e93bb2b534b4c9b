//! [`Options`]: how a store talks to its servers, and what it asks of them.

/// The settings of a store.
///
/// ```
/// use idem_redis::Options;
///
/// let options = Options::new().key_prefix("shop:").max_answer_bytes(1 << 20);
/// assert_eq!(options.key_prefix, "shop:");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What the name of every key begins with. Stores with different prefixes know nothing of each other.
    pub key_prefix: String,
    /// The longest answer that is kept.
    pub max_answer_bytes: usize,
}

impl Options {
    /// Keys that begin with `idem:`, for answers of at most 16 MiB.
    pub fn new() -> Self {
        Self { key_prefix: "idem:".to_owned(), max_answer_bytes: 16 << 20 }
    }

    /// The same options with another beginning of the keys.
    ///
    /// The default takes as much memory as fits beside the digest; with more than six characters a record takes 16 bytes
    /// more. A prefix with `{..}` in it puts all records into one slot of a Cluster.
    #[must_use]
    pub fn key_prefix(mut self, key_prefix: impl Into<String>) -> Self {
        self.key_prefix = key_prefix.into();
        self
    }

    /// The same options with another bound on the length of an answer.
    #[must_use]
    pub fn max_answer_bytes(mut self, max_answer_bytes: usize) -> Self {
        self.max_answer_bytes = max_answer_bytes;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
