//! The network: the machine's, or that of a simulation.

#[cfg(all(feature = "simulation", not(debug_assertions)))]
compile_error!("a simulated network is for tests: no optimised build has it");

#[cfg(not(feature = "simulation"))]
pub(crate) use tokio::net::{TcpListener, TcpStream};
#[cfg(feature = "simulation")]
pub(crate) use turmoil::net::{TcpListener, TcpStream};
