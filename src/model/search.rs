//! Where the model and ONNX Runtime are looked for: the first that exists is taken.
//!
//! 1. the path in `UNDERTONE_MODEL` or `UNDERTONE_ONNXRUNTIME`, which is for one run (then nowhere else),
//! 2. the path in the configuration (then nowhere else),
//! 3. beside the program, and the project's own folders above the program or, if it is not installed, the working directory,
//! 4. where packages put them: `/usr/lib/undertone`, `/usr/share/undertone`, the system's libraries.

use super::ModelError;
use std::path::{Path, PathBuf};

/// Environment variable that names the model file.
pub const MODEL_VARIABLE: &str = "UNDERTONE_MODEL";
/// Environment variable that names the ONNX Runtime library.
pub const LIBRARY_VARIABLE: &str = "UNDERTONE_ONNXRUNTIME";

const MODEL: &str = "undertone.onnx";
const LIBRARY: &str = "libonnxruntime.so";

/// The model file.
pub fn model(configured: &Path) -> Result<PathBuf, ModelError> {
    let mut searched = Vec::new();
    if let Some(path) = told(configured, MODEL_VARIABLE) {
        searched.push(path);
    } else {
        searched.extend(beside_program().map(|dir| dir.join(MODEL)));
        searched.extend(project_folders().map(|dir| dir.join("models").join(MODEL)));
        searched.extend(["/usr/share/undertone", "/usr/lib/undertone"].map(|dir| Path::new(dir).join(MODEL)));
    }
    let found = searched.iter().find(|path| path.is_file()).cloned();
    found.ok_or(ModelError::Missing {
        what: "the model",
        searched,
        mend: mend("model.path", configured, MODEL_VARIABLE),
    })
}

/// The ONNX Runtime library.
pub fn library(configured: &Path) -> Result<PathBuf, ModelError> {
    let mut searched = Vec::new();
    if let Some(path) = told(configured, LIBRARY_VARIABLE) {
        searched.push(path);
    } else {
        searched.extend(beside_program());
        searched.extend(project_folders().map(|dir| dir.join(".runtime")));
        let system = [
            "/usr/lib/undertone",
            "/usr/local/lib",
            "/usr/lib",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
        ];
        searched.extend(system.map(PathBuf::from));
    }
    let found = searched
        .iter()
        .find_map(|place| if place.is_file() { Some(place.clone()) } else { in_folder(place) });
    let mend = mend("model.library", configured, LIBRARY_VARIABLE);
    found.ok_or(ModelError::Missing { what: "ONNX Runtime (libonnxruntime.so)", searched, mend })
}

/// What brings the library, by where this program lies: a package, a checkout, or neither.
pub fn library_mend(configured: &Path) -> String {
    mend("model.library", configured, LIBRARY_VARIABLE)
}

fn mend(key: &str, configured: &Path, variable: &str) -> String {
    let told = match (named(variable), configured.as_os_str().is_empty()) {
        (Some(_), _) => Some(variable),
        (None, false) => Some(key),
        (None, true) => None,
    };
    mend_of(key, told, std::env::current_exe().ok().as_deref(), project_folders().next().is_some())
}

/// `told` is the key or the variable that names the file, if one does.
fn mend_of(key: &str, told: Option<&str>, program: Option<&Path>, checkout: bool) -> String {
    let packaged = program.is_some_and(installed);
    match told {
        Some(told) => {
            let fetched = if key == "model.library" && checkout && !packaged {
                " (`make runtime` fetches it into the project)"
            } else {
                ""
            };
            format!("correct {told}, or leave it out: then it is looked for in the usual places{fetched}")
        }
        None if packaged => format!(
            "the package brings it: install that again (`sudo apt install --reinstall ./undertone_*.deb`, or pull the \
             image anew), or name another as {key} in the configuration"
        ),
        None if checkout && key == "model.library" => {
            "`make runtime` fetches it into the project, or name it as model.library in the configuration"
                .into()
        }
        None => format!("name it as {key} in the configuration; the Debian package brings it"),
    }
}

/// What the environment or the configuration names.
fn told(configured: &Path, variable: &str) -> Option<PathBuf> {
    named(variable).or_else(|| (!configured.as_os_str().is_empty()).then(|| configured.to_path_buf()))
}

/// What the environment names.
fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn beside_program() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.to_path_buf())
}

/// Whether a program was put in place by a package.
fn installed(program: &Path) -> bool {
    program.starts_with("/usr")
}

/// Folders that look like a checkout.
fn project_folders() -> impl Iterator<Item = PathBuf> {
    folders_above(std::env::current_exe().ok(), std::env::current_dir().ok())
}

/// Folders that hold our Cargo.toml, above the program or above here. A program that is installed is no part of where it is
/// called: there, anybody may have laid a library for it.
fn folders_above(program: Option<PathBuf>, here: Option<PathBuf>) -> impl Iterator<Item = PathBuf> {
    let here = here.filter(|_| !program.as_deref().is_some_and(installed));
    let starts = [program, here];
    let folder = |start: PathBuf| {
        let is_project = |dir: &&Path| dir.join("Cargo.toml").is_file() && dir.join("models").is_dir();
        start.ancestors().find(is_project).map(Path::to_path_buf)
    };
    starts.into_iter().flatten().filter_map(folder)
}

/// The library under its versioned or plain name; the newest if there are several.
fn in_folder(folder: &Path) -> Option<PathBuf> {
    let ours = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let version = version(path.file_name()?.to_str()?)?;
        path.is_file().then_some((version, path))
    };
    std::fs::read_dir(folder).ok()?.filter_map(ours).max().map(|(_, path)| path)
}

/// The numbers behind a library's name, if it is one: none for `libonnxruntime.so`, no version of a copy that was laid aside.
fn version(name: &str) -> Option<Vec<u32>> {
    match name.strip_prefix(LIBRARY)? {
        "" => Some(Vec::new()),
        rest => rest.strip_prefix('.')?.split('.').map(|number| number.parse().ok()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mend_is_for_whoever_reads_it() {
        let (packaged, built) =
            (Path::new("/usr/bin/undertone"), Path::new("/home/ann/undertone/target/debug/undertone"));
        let library = |told, program, checkout| mend_of("model.library", told, Some(program), checkout);
        assert!(library(None, packaged, false).contains("apt install --reinstall"));
        // Whoever stands in a checkout by chance has installed the package all the same.
        assert!(!library(None, packaged, true).contains("make runtime"));
        assert!(library(None, built, true).contains("`make runtime`"));
        let alone = library(None, built, false);
        assert!(alone.contains("model.library") && !alone.contains("make"), "{alone}");
        let told = library(Some("model.library"), packaged, false);
        assert!(told.starts_with("correct model.library") && !told.contains("install"), "{told}");
        assert!(!mend_of("model.path", None, Some(built), true).contains("make runtime"));
    }

    #[test]
    fn the_newest_library_is_that_of_the_highest_number() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(in_folder(folder.path()), None);
        for name in ["", ".1", ".1.9.0", ".1.24.4", ".1.32.0.bak", "-old", ".1.33.x"] {
            std::fs::write(folder.path().join(format!("{LIBRARY}{name}")), "").unwrap();
        }
        std::fs::create_dir(folder.path().join(format!("{LIBRARY}.2.0.0"))).unwrap();
        assert_eq!(in_folder(folder.path()), Some(folder.path().join(format!("{LIBRARY}.1.24.4"))));
    }

    #[test]
    fn an_installed_program_takes_nothing_from_where_it_is_called() {
        let project = tempfile::tempdir().unwrap();
        std::fs::write(project.path().join("Cargo.toml"), "").unwrap();
        let below = project.path().join("models/below");
        std::fs::create_dir_all(&below).unwrap();
        let found =
            |program: &str| folders_above(Some(program.into()), Some(below.clone())).collect::<Vec<_>>();
        assert_eq!(found("/home/ann/target/debug/undertone"), [project.path()]);
        assert!(found("/usr/bin/undertone").is_empty() && found("/usr/local/bin/undertone").is_empty());
        assert_eq!(folders_above(Some(below.join("undertone")), None).collect::<Vec<_>>(), [project.path()]);
    }
}
