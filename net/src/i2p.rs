//! I2P, through the SAM bridge of a router.
