//! A workflow that must be refused at deploy, by the names of its imports: it reads a file and opens a
//! connection. It is never run.

use rehydrate::{Context, Failure, OrFail};
use std::io::Write;

/// Reads the file named and sends it to the address named.
#[rehydrate::workflow]
async fn refused(_ctx: Context, (path, address): (String, String)) -> Result<usize, Failure> {
    let bytes = std::fs::read(path).or_fail("read")?;
    let mut connection = std::net::TcpStream::connect(address).or_fail("connect")?;
    connection.write_all(&bytes).or_fail("send")?;
    Ok(bytes.len())
}
