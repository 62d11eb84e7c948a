//! Which tensor of the base each fine-tuned tensor is coded against.
