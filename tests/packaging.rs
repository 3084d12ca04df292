//! What packages need of the program: its version, man pages, completions; and of the project: the files that
//! Cargo.toml names, and a book whose links hold.

#[path = "support/program.rs"]
mod program;

use program::{finish, undertone};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_version_names_model_and_library() {
    let short = finish(undertone().arg("-V"));
    assert_eq!((short.status, short.out.trim()), (0, concat!("undertone ", env!("CARGO_PKG_VERSION"))));
    let long = finish(undertone().arg("--version"));
    let sum = finish(Command::new("sha256sum").arg("models/undertone.onnx"));
    let (digest, _) = sum.out.split_once(' ').unwrap();
    let line =
        |name: &str| long.out.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{}", long.out));
    assert!(line("model:").contains(digest), "{}", long.out);
    assert!(line("onnxruntime:").contains("1.") && line("onnxruntime:").contains("(build "), "{}", long.out);
    assert!(line("commit:").len() > "commit: ".len(), "{}", long.out);
    // What is wrong is said in its place.
    let long = finish(undertone().arg("--version").env("UNDERTONE_MODEL", "/absent.onnx"));
    assert!(long.status == 0 && long.out.contains("/absent.onnx"), "{}", long.out);
}

/// The page at this path, or those in the folder and below.
fn pages(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().flat_map(|entry| pages(&entry.unwrap().path())).collect();
    }
    let is_one = path.extension().is_some_and(|end| end == "md");
    if is_one { vec![path.into()] } else { vec![] }
}

/// A page without what stands in fences.
fn prose(page: &Path) -> String {
    let text = std::fs::read_to_string(page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    let mut fenced = false;
    let outside = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    outside.map(|line| format!("{line}\n")).collect()
}

/// What GitHub makes of a page's headings: small letters, digits, `_` and `-`; spaces become `-`, links their words,
/// and a heading that was there before is numbered.
fn anchors(page: &Path) -> Vec<String> {
    let mut seen = HashMap::new();
    let text = prose(page);
    let headings = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let anchor = |heading: &str| {
        let mut parts = heading.trim().split("](");
        let words: String =
            parts.next().into_iter().chain(parts.map(|part| part.split_once(')').unwrap().1)).collect();
        let kept = words.to_lowercase().replace(' ', "-");
        let kept: String = kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
        let before = seen.entry(kept.clone()).or_insert(0);
        *before += 1;
        if *before == 1 { kept } else { format!("{kept}-{}", *before - 1) }
    };
    headings.map(anchor).collect()
}

/// How many links there are in these pages, and those that lead nowhere; other hosts are not asked.
fn links(places: &[&Path]) -> (usize, Vec<String>) {
    let (mut count, mut dead) = (0, Vec::new());
    for page in places.iter().flat_map(|place| pages(place)) {
        for link in prose(&page).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let there = if path.is_empty() { page.clone() } else { page.with_file_name(path) };
            let holds = path.contains(':')
                || there.exists() && (anchor.is_empty() || anchors(&there).iter().any(|it| it == anchor));
            if !holds {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    (count, dead)
}

#[test]
fn links_between_pages_hold() {
    let places = ["README.md", "CHANGELOG.md", "docs", "deploy", "models"];
    let (count, dead) = links(&places.map(Path::new));
    assert!(dead.is_empty() && count > 100, "{count} links; {dead:#?}");
}

/// The test above can fail.
#[test]
fn links_that_do_not_hold_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "# As `it_is`: in [words](page.md)!\n## Twice\n## Twice\n#None\n```\n# Fenced\n[f](absent.md)\n```\n";
    let links_to = |targets: &str| {
        let list: String = targets.split(' ').map(|target| format!("- [l]({target})\n")).collect();
        std::fs::write(folder.path().join("page.md"), format!("{text}{list}")).unwrap();
        links(&[folder.path()])
    };
    let good = "#as-it_is-in-words page.md#twice page.md#twice-1 https://absent.invalid/page.md#x";
    assert_eq!(links_to(good), (5, vec![]));
    let bad = "absent.md docs/page.md#twice #fenced #none page.md#twice-2 #Twice";
    let (_, dead) = links_to(bad);
    let found: Vec<&str> = dead.iter().map(|line| line.rsplit_once(": ").unwrap().1).collect();
    assert_eq!(found.join(" "), bad);
}

/// Links in the book hold where a package lays it, and are still links there: to what it lacks, they are words.
#[test]
fn the_packaged_book_has_no_dead_links() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("scripts/book.sh").arg(folder.path()).status().unwrap();
    assert!(made.success());
    let (count, dead) = links(&[folder.path()]);
    assert!(dead.is_empty() && count > 60, "{count} links; {dead:#?}");
    for page in
        ["README.md", "docs/README.md", "docs/mqtt.md", "docs/pictures/room.png", "models/MODEL_CARD.md"]
    {
        assert!(folder.path().join(page).exists(), "{page}");
    }
}

/// What a broker keeps of a sensor, the page about its removal empties.
#[test]
fn removal_empties_all_that_is_retained() {
    let text = |page: &str| std::fs::read_to_string(page).unwrap();
    let (topics, page) = (text("docs/mqtt.md"), text("docs/install.md"));
    let (_, removal) = page.split_once("\n## Remove it\n").unwrap();
    let list = removal.lines().find_map(|line| line.strip_prefix("for topic in ")?.strip_suffix("; do"));
    let mut emptied: Vec<&str> = list.unwrap().split(' ').collect();
    let rows = topics.split("### `state`").next().unwrap().lines().filter(|line| line.contains(" | yes | "));
    let mut kept: Vec<&str> =
        rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect();
    emptied.sort_unstable();
    kept.sort_unstable();
    assert_eq!(emptied, kept);
    assert!(removal.contains("\nempty homeassistant/device/undertone_kitchen/config\n"));
}

#[test]
fn the_model_has_at_most_12_megabytes() {
    let length = std::fs::metadata("models/undertone.onnx").unwrap().len();
    assert!((1_000_000..=12_000_000).contains(&length), "{length}");
}

/// What Cargo.toml has cargo-deb take from the project is there, and what is installed names what is installed.
#[test]
fn the_package_is_made_of_files_that_exist() {
    let cargo: toml::Table = std::fs::read_to_string("Cargo.toml").unwrap().parse().unwrap();
    let deb = &cargo["package"]["metadata"]["deb"];
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    let (mut sources, mut targets) = (Vec::new(), Vec::new());
    for asset in deb["assets"].as_array().unwrap() {
        let (source, target) = (text(&asset[0]), text(&asset[1]));
        let name = Path::new(&source).file_name().unwrap().to_str().unwrap();
        targets.push(format!("/{target}{}", if target.ends_with('/') { name } else { "" }));
        sources.push(source);
    }
    // scripts/package.sh builds the others, and cargo-deb wants each of them.
    sources.retain(|source| !source.starts_with("target/"));
    assert!(sources.len() >= 4, "{sources:?}");
    sources.extend([text(&deb["license-file"][0]), text(&deb["changelog"])]);
    let scripts = ["postinst", "prerm", "postrm"];
    sources.extend(scripts.map(|script| format!("{}/{script}", text(&deb["maintainer-scripts"]))));
    let systemd = &deb["systemd-units"];
    let unit = format!("{}/{}.service", text(&systemd["unit-scripts"]), text(&systemd["unit-name"]));
    sources.push(unit.clone());
    for source in &sources {
        assert!(Path::new(source).is_file(), "{source}");
    }
    let unit = std::fs::read_to_string(unit).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let postinst = std::fs::read_to_string("deploy/debian/scripts/postinst").unwrap();
    let link = postinst.lines().find_map(|line| line.trim().strip_prefix("ln -sf ")).unwrap();
    let named: Vec<&str> =
        start.split(' ').chain(link.split(' ')).filter(|word| word.starts_with('/')).collect();
    assert_eq!(named.len(), 3, "the program, its configuration, backoff.conf: {named:?}");
    for file in named {
        assert!(targets.iter().any(|target| target == file), "{file} is not in {targets:?}");
    }
}

/// What is linked into the program is named with its licence; what tests it is not.
#[test]
fn the_licences_of_what_is_linked_are_gathered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("CRATES.txt");
    assert!(finish(Command::new("scripts/licences.py").arg(&file)).status == 0);
    let text = std::fs::read_to_string(file).unwrap();
    for name in ["symphonia-core", "rumqttc", "cpal", "openssl", "subtle"] {
        assert!(text.contains(&format!("\n\n{name} ")), "{name}");
    }
    assert!(!text.contains("\n\nassert_cmd ") && !text.contains("\n\nclap_derive "));
    // Once, although eleven crates bring it.
    assert_eq!(text.matches("\nMozilla Public License Version 2.0\n").count(), 1);
    for put_together in ["scripts/package.sh", "deploy/container/Containerfile"] {
        assert!(
            std::fs::read_to_string(put_together).unwrap().contains("scripts/licences.py"),
            "{put_together}"
        );
    }
}

#[test]
fn every_command_has_a_page_and_shells_know_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = finish(undertone().arg("manual").arg(folder.path()));
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    let help = finish(undertone().arg("--help")).out;
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(["run", "consent", "ledger", "privacy"].iter().all(|it| commands.contains(it)), "{help}");
    for command in commands.into_iter().filter(|it| *it != "help") {
        let page = std::fs::read_to_string(folder.path().join(format!("man/undertone-{command}.1"))).unwrap();
        assert!(page.contains(".TH") && page.contains("SYNOPSIS"), "{page}");
        for section in ["\"EXIT STATUS\"", "ENVIRONMENT", "FILES", "\"SEE ALSO\""] {
            assert_eq!(page.matches(&format!(".SH {section}\n")).count(), 1, "{section}: {page}");
        }
        for fact in ["UNDERTONE_MQTT_PASSWORD", "UNDERTONE_ONNXRUNTIME", "/etc/undertone/undertone.toml"] {
            assert!(page.contains(&fact.replace('-', "\\-")), "{fact}: {page}");
        }
    }
    assert!(folder.path().join("man/undertone.1").exists());
    assert!(folder.path().join("man/undertone-consent-revoke.1").exists());
    for page in std::fs::read_dir(folder.path().join("man")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("help") && !name.contains("manual"), "{name} is of no use");
    }
    let page = std::fs::read_to_string(folder.path().join("man/undertone.toml.5")).unwrap();
    assert!(
        page.contains(".SH [mqtt]\n") && page.contains(".B retry_seconds = 5.0\nLongest pause"),
        "{page}"
    );
    // TOML as it is written: an argument's own quotes would be lost.
    assert!(
        page.contains("\n.B node = \\(dqundertone\\(dq\n") && page.contains("\n.B user = \\(dq\\(dq\n"),
        "{page}"
    );
    for file in ["undertone.bash", "_undertone", "undertone.fish"] {
        let text = std::fs::read_to_string(folder.path().join("completions").join(file)).unwrap();
        assert!(text.contains("log-format"), "{file}");
    }
    let bash = Command::new("bash").arg("-n").arg(folder.path().join("completions/undertone.bash")).status();
    assert!(bash.unwrap().success());
}
