//! openraft made ours.
