//! The option `trace`: the distributed trace that a unit is part of, as W3C Trace Context.
