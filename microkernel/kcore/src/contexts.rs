//! Translations that outlive a change of address space. A processor with process-context identifiers keeps those of several
//! (SDM vol. 3, 4.10.1), and drops an identifier's when CR3 is loaded with it and bit 63 clear (4.10.4.1). Here is which
//! address space of a core has which identifier, and whether it still knows what was taken out meanwhile.
//!
//! A core is not told of an unmap in an address space that is not loaded: by the generation it finds out when it comes back.
//! So no identifier but the loaded one is ever flushed, and INVPCID has no use.

use core::cell::Cell;

/// One core's identifiers, 1 to `N`. (0 is for the kernel's own tables.) All-zero is its beginning.
pub struct Contexts<const N: usize> {
    /// Of each: the address space that has it, 0 for none; and a generation: all that was taken out before it is flushed.
    held: [Cell<(u64, u64)>; N],
    next: Cell<usize>,
}

impl<const N: usize> Contexts<N> {
    pub const fn new() -> Self {
        Self { held: [const { Cell::new((0, 0)) }; N], next: Cell::new(0) }
    }

    /// An address space that is at `generation` is about to be loaded. Its identifier, and whether what the processor holds
    /// under it may stay.
    pub fn enter(&self, space: u64, generation: u64) -> (u64, bool) {
        let known = self.held.iter().position(|held| held.get().0 == space);
        let index = known.unwrap_or_else(|| self.next.replace((self.next.get() + 1) % N));
        let held = self.held[index].replace((space, generation));
        (index as u64 + 1, held == (space, generation))
    }
}

#[cfg(test)]
mod tests {
    use super::Contexts;
    use crate::atomic::{AtomicU64, Ordering};
    use crate::handshake::{Cores, Presence};

    const SPACES: usize = 3;
    /// Steps of each sequence that is tried.
    const STEPS: u32 = if cfg!(miri) { 4 } else { 7 };

    type Enter = fn(&Contexts<2>, u64, u64) -> (u64, bool);

    /// A core with two identifiers, and three address spaces with one page each, at the same address.
    struct Machine {
        enter: Enter,
        contexts: Contexts<2>,
        /// The translation of the page that the processor holds under each identifier: space and version.
        held: [Option<(usize, u32)>; 3],
        /// Space, identifier, generation.
        loaded: Option<(usize, usize, u64)>,
        spaces: [Presence; SPACES],
        /// How often each space's page was replaced by another.
        versions: [u32; SPACES],
    }

    impl Machine {
        fn new(enter: Enter) -> Self {
            let spaces = [const { () }; SPACES].map(|()| Presence::new());
            Self { enter, contexts: Contexts::new(), held: [None; 3], loaded: None, spaces, versions: [0; SPACES] }
        }

        /// `shootdown::activate`
        fn activate(&mut self, space: usize) {
            if let Some((loaded, context, seen)) = self.loaded
                && loaded == space
            {
                if let Some(generation) = self.spaces[space].enter_again(1, seen) {
                    self.held[context] = None;
                    self.loaded = Some((space, context, generation));
                }
                return;
            }
            let generation = self.spaces[space].enter(1);
            let (context, keep) = (self.enter)(&self.contexts, space as u64 + 1, generation);
            let context = context as usize;
            if !keep {
                self.held[context] = None;
            }
            self.pause();
            self.loaded = Some((space, context, generation));
        }

        fn pause(&mut self) {
            if let Some((space, ..)) = self.loaded {
                self.spaces[space].leave(1);
            }
        }

        /// Another core puts another page in place of this one.
        fn replace(&mut self, space: usize) {
            self.versions[space] += 1;
            let other = Other::default();
            self.spaces[space].settle(true, &other);
            if other.requested.load(Ordering::Relaxed) != 0 {
                let (_, context, _) = self.loaded.expect("interrupted for what is loaded");
                self.held[context] = None;
            }
        }

        /// Whether an instruction on the core, if it is in user mode, uses the right page.
        fn touch(&mut self) -> bool {
            let Some((space, context, _)) = self.loaded else { return true };
            let right = (space, self.versions[space]);
            self.spaces[space].active() == 0 || *self.held[context].get_or_insert(right) == right
        }
    }

    /// The core that takes pages away, which has no address space loaded, as it sees the machine's.
    #[derive(Default)]
    struct Other {
        requested: AtomicU64,
        done: AtomicU64,
    }

    impl Cores for Other {
        fn own(&self) -> u64 {
            2
        }

        fn drop_own(&self) {}

        fn counters(&self, _: usize) -> (&AtomicU64, &AtomicU64) {
            (&self.requested, &self.done)
        }

        fn interrupt(&self, _: usize) {
            self.done.store(self.requested.load(Ordering::Relaxed), Ordering::Relaxed);
        }

        fn meanwhile(&self) {}
    }

    /// Whether the right page is used in every step of all sequences.
    fn holds(enter: Enter) -> bool {
        let choices = 2 * SPACES + 1;
        (0..choices.pow(STEPS)).all(|sequence| {
            let mut machine = Machine::new(enter);
            (0..STEPS).all(|step| {
                match sequence / choices.pow(step) % choices {
                    0 => machine.pause(),
                    choice if choice <= SPACES => machine.activate(choice - 1),
                    choice => machine.replace(choice - 1 - SPACES),
                }
                machine.touch()
            })
        })
    }

    #[test]
    fn no_translation_is_used_that_was_taken_out() {
        assert!(holds(Contexts::enter));
    }

    #[test]
    fn an_identifier_that_forgets_the_generation_is_found_out() {
        assert!(!holds(|contexts, space, _| contexts.enter(space, 0)));
    }

    #[test]
    fn an_identifier_that_is_not_flushed_for_its_next_space_is_found_out() {
        assert!(!holds(|contexts, space, generation| {
            let known = contexts.held.iter().any(|held| held.get() == (space, generation));
            let (context, keep) = contexts.enter(space, generation);
            (context, keep || !known)
        }));
    }

    #[test]
    fn a_space_that_comes_back_keeps_its_translations() {
        let contexts = Contexts::<2>::new();
        assert_eq!(contexts.enter(1, 5), (1, false));
        assert_eq!(contexts.enter(2, 0), (2, false));
        assert_eq!(contexts.enter(1, 5), (1, true));
        assert_eq!(contexts.enter(2, 0), (2, true));
        assert_eq!(contexts.enter(3, 0), (1, false));
        assert_eq!(contexts.enter(2, 1), (2, false));
    }
}
