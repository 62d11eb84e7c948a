//! Files to examples, and examples to batches.
