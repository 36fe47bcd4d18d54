//! The control groups that a process is in.

use std::path::{Path, PathBuf};

/// The directories of the groups that this process is in and that may control
/// the CPU: version 2 first, then version 1.
pub(crate) fn places(mountinfo: &str, cgroup: &str) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let fields: Vec<&str> = mount.split(' ').collect();
        let [_, _, _, root, point, ..] = fields[..] else { continue };
        let words: Vec<&str> = kind.split(' ').collect();
        let [kind, _, options, ..] = words[..] else { continue };
        let group = match kind {
            "cgroup2" => group_of(cgroup, ""),
            "cgroup" if options.split(',').any(|option| option == "cpu") => group_of(cgroup, "cpu"),
            _ => continue,
        };
        // In a container the mount shows a part of the tree only.
        let below = group.and_then(|group| group.strip_prefix(root.trim_end_matches('/')));
        let below = below.unwrap_or_default().trim_start_matches('/');
        let place = Path::new(point).join(below);
        if kind == "cgroup2" { places.insert(0, place) } else { places.push(place) }
    }
    places
}

/// The group's path for `controller`, in the format of /proc/self/cgroup.
fn group_of<'a>(cgroup: &'a str, controller: &str) -> Option<&'a str> {
    cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_found() {
        let mounts = "30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let groups = "0::/user.slice/user-1000.slice\n";
        let expected = [PathBuf::from("/sys/fs/cgroup/user.slice/user-1000.slice")];
        assert_eq!(places(mounts, groups), expected);
    }

    #[test]
    fn version_1_is_found_by_its_controller() {
        let mounts = "31 1 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 1 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      33 1 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = "2:memory:/m\n1:cpu,cpuacct:/x\n0::/\n";
        let expected = ["/sys/fs/cgroup/unified/", "/sys/fs/cgroup/cpu/x"].map(PathBuf::from);
        assert_eq!(places(mounts, groups), expected);
    }

    #[test]
    fn a_container_sees_its_own_part() {
        let mounts = "30 1 0:26 /docker/7 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(places(mounts, "0::/docker/7\n"), [PathBuf::from("/sys/fs/cgroup/")]);
    }
}
