//! What several tests share.

pub mod fifo;
