//! Who writes a SQLite file now, and the fence that keeps everybody from writing it.
