//! PINGREQ and PINGRESP: two bytes each.
