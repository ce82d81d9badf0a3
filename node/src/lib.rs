//! GridSeal node.
