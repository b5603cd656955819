//! The proxy in simulated time: switches, scripted telephones, and what leaves on which flow.
//!
//! `world` holds one or two switches with their surroundings, `phone` writes what telephones say; the other files hold the tests
//! of one area each. Everything goes through the public interface of [`switch::Switch`], as text.

mod calls;
mod chance;
mod forwarding;
mod in_dialog;
mod media;
mod next_hop;
mod old_peers;
mod passwords;
mod phone;
mod reconnect;
mod refusals;
mod responses;
mod world;
