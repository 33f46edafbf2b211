//! `frame call`.
