//! Whose eyes look: root may read what the service may not, so root's check of an installed service is made by the
//! service's own user.

use crate::cli::Failure;
use crate::config::DEFAULT_PATH;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// The package's program, and the user that its unit runs as.
const PROGRAM: &str = "/usr/bin/undertone";
const USER: &str = "undertone";
/// Where root's own PATH does not lead from cron, or after `su`.
const RUNUSER: &str = "/usr/sbin/runuser";

/// Runs this program again as the service's user, if root checks the service's configuration on a machine where the
/// package is installed; comes back where that is not so. The streams stay as they are.
///
/// # Errors
/// When it cannot be run.
pub fn look_as_service(config: Option<&Path>) -> Result<(), Failure> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    if !applies(rustix::process::geteuid().is_root(), &program, config, &passwd) {
        return Ok(());
    }
    complain!("undertone: looked at as the user {USER}, as the service is (--as-root: as root)");
    // The service has its sound cards by the unit's SupplementaryGroups; the package puts the user into that group.
    let e = Command::new(RUNUSER).args(["-u", USER, "--", PROGRAM]).args(std::env::args_os().skip(1)).exec();
    Err(std::io::Error::new(e.kind(), format!("{RUNUSER} cannot be run ({e}); --as-root does without"))
        .into())
}

/// Not in a container, where root is all there is, and not for a file of one's own.
fn applies(root: bool, program: &Path, config: Option<&Path>, passwd: &str) -> bool {
    let there = passwd.lines().any(|line| line.split(':').next() == Some(USER));
    root && there
        && program == Path::new(PROGRAM)
        && config.is_none_or(|path| path == Path::new(DEFAULT_PATH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_looks_as_the_service_where_there_is_one() {
        let (installed, users) =
            (Path::new(PROGRAM), "root:x:0:0::/root:/bin/sh\nundertone:x:104:110::/:/bin/false\n");
        let shipped = Some(Path::new(DEFAULT_PATH));
        assert!(applies(true, installed, None, users) && applies(true, installed, shipped, users));
        assert!(!applies(false, installed, shipped, users), "the service itself, in ExecStartPre");
        assert!(!applies(true, installed, shipped, "root:x:0:0::/root:/bin/sh\n"), "a container");
        assert!(!applies(true, installed, Some(Path::new("/root/mine.toml")), users));
        assert!(!applies(true, Path::new("/root/undertone/target/debug/undertone"), None, users));
    }
}
