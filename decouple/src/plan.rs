//! What `decouple` tells the preload library, in one environment variable.

use crate::cores::CoreList;
use std::fmt;
use std::str::FromStr;

/// The environment variable that carries a [`Plan`].
pub const VARIABLE: &str = "DECOUPLE_PLAN";

/// The environment variable that sets the policy where no option does.
pub const POLICY_VARIABLE: &str = "DECOUPLE";

/// What happens when a thread cannot be decoupled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It is an error, and the command does not run (on).
    #[default]
    Require,
    /// A warning, and the command runs undecoupled.
    Prefer,
    /// Decoupling is not tried.
    Off,
}

/// When the thread is decoupled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before `main`.
    Now,
    /// When MPI_Init returns.
    AfterInit,
}

/// The shared word in which the preload library notes that a thread was decoupled: an inherited memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub fd: i32,
    /// To know the file again if somebody closed it and the number means another one.
    pub inode: u64,
}

/// The instructions of one `decouple COMMAND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The process that `decouple` became; its children inherit the variable.
    pub pid: i32,
    pub when: When,
    pub policy: Policy,
    /// To try in this order.
    pub cores: CoreList,
    pub reservation: Option<i32>,
    pub mark: Mark,
    pub verbose: bool,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "require" => Ok(Policy::Require),
            "prefer" => Ok(Policy::Prefer),
            "off" => Ok(Policy::Off),
            other => Err(format!("'{other}' is not a policy: require, prefer or off")),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Policy::Require => "require",
            Policy::Prefer => "prefer",
            Policy::Off => "off",
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.when {
            When::Now => "now",
            When::AfterInit => "init",
        };
        write!(f, "pid={} when={when} policy={} cores={}", self.pid, self.policy, self.cores)?;
        write!(f, " mark={}:{} verbose={}", self.mark.fd, self.mark.inode, u8::from(self.verbose))?;
        match self.reservation {
            Some(holder) => write!(f, " reservation={holder}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        fn parse<T: FromStr>(value: Option<&str>, key: &str) -> Result<T, String> {
            let value = value.ok_or_else(|| format!("{key} is missing"))?;
            value.parse().map_err(|_| format!("{key}={value} is wrong"))
        }
        let get = |key: &str| {
            text.split(' ').filter_map(|item| item.split_once('=')).find(|(k, _)| *k == key).map(|(_, value)| value)
        };
        let mark = get("mark").ok_or("mark is missing")?;
        let (fd, inode) = mark.split_once(':').ok_or_else(|| format!("mark={mark} is wrong"))?;
        Ok(Plan {
            pid: parse(get("pid"), "pid")?,
            when: match get("when") {
                Some("now") => When::Now,
                Some("init") => When::AfterInit,
                other => return Err(format!("when={} is wrong", other.unwrap_or_default())),
            },
            policy: parse(get("policy"), "policy")?,
            cores: parse(get("cores"), "cores")?,
            reservation: get("reservation").map(|holder| parse(Some(holder), "reservation")).transpose()?,
            mark: Mark { fd: parse(Some(fd), "mark")?, inode: parse(Some(inode), "mark")? },
            verbose: get("verbose") == Some("1"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            pid: 12,
            when: When::AfterInit,
            policy: Policy::Prefer,
            cores: "2,1".parse().unwrap(),
            reservation: Some(9),
            mark: Mark { fd: 5, inode: 1234 },
            verbose: true,
        }
    }

    #[test]
    fn a_plan_survives_the_environment() {
        let other = Plan { when: When::Now, reservation: None, verbose: false, policy: Policy::Require, ..plan() };
        for plan in [plan(), other] {
            assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
        }
    }

    #[test]
    fn a_damaged_plan_is_refused_with_the_reason() {
        let text = plan().to_string();
        assert_eq!(text.replace("pid=12", "").parse::<Plan>().unwrap_err(), "pid is missing");
        assert_eq!(text.replace("cores=2,1", "cores=x").parse::<Plan>().unwrap_err(), "cores=x is wrong");
        assert_eq!(text.replace("when=init", "when=later").parse::<Plan>().unwrap_err(), "when=later is wrong");
    }

    #[test]
    fn an_unknown_policy_names_the_known_ones() {
        assert_eq!("maybe".parse::<Policy>().unwrap_err(), "'maybe' is not a policy: require, prefer or off");
    }
}
