//! Levels to bytes and back.
