//! [`TransactionOutcome`]: how a transactional completion ended.

/// How a transactional completion ended.
#[must_use = "only `Completed` means that the effect happened"]
#[derive(Debug, PartialEq, Eq)]
pub enum TransactionOutcome<T, E> {
    /// The effect and the completion are both committed.
    Completed(T),
    /// The step returned an error. Its effect was rolled back.
    RolledBack(E),
    /// This owner had completed the key before. The step did not run.
    AlreadyCompleted,
    /// This owner no longer has the key. The step did not run, or its effect was rolled back.
    Lost,
}
