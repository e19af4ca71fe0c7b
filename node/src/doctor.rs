//! What this machine lets sandboxes do.
