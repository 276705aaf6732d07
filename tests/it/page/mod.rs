//! The status page in a browser: every state as a picture, and the page of a running daemon.

mod daemon;
mod facts;
mod http;
mod servers;
mod states;
mod words;
