//! Recipes of contents that begin like one and go on like another.

use crate::delta::recipe::Recipe;

impl Recipe {
    /// The recipe of what begins like this one's content and goes on like another's, at the same offsets; and how many
    /// bytes of this one it begins with: a whole number of blocks, or all of it where the other does not go on. Nothing
    /// when their blocks or seeds differ.
    #[must_use]
    pub fn continued_by(&self, rest: &Self) -> Option<(Self, u64)> {
        if (self.block(), self.seed()) != (rest.block(), rest.seed()) {
            return None;
        }
        let whole = self.size() / u64::from(self.block());
        let length = whole * u64::from(self.block());
        if rest.size() <= length {
            return Some((self.clone(), self.size()));
        }
        let whole = usize::try_from(whole).ok()?;
        let (front, back) = (self.blocks().get(..whole)?, rest.blocks().get(whole..)?);
        let blocks = [front, back].concat();
        let all = Self::new(rest.size(), self.block(), self.seed(), blocks).ok()?;
        let (front, back) = (self.fine().get(..whole), rest.fine().get(whole..));
        let fine = [front.unwrap_or_default(), back.unwrap_or_default()].concat();
        Some((all.with_fine(fine), length))
    }
}

#[cfg(test)]
mod tests {
    use crate::delta::{Recipe, RecipeBuilder};
    use proptest::prelude::*;

    fn recipe(content: &[u8], seed: u64) -> Recipe {
        let mut builder = RecipeBuilder::new(4096, seed);
        builder.update(content);
        builder.finish()
    }

    proptest! {
        #[test]
        fn it_is_the_recipe_of_both_together(
            front in 0usize..20_000,
            back in 0usize..20_000,
            seed in any::<u64>(),
        ) {
            let (front, back) = (vec![1; front], vec![2; back]);
            let (all, length) = recipe(&front, seed).continued_by(&recipe(&back, seed)).unwrap();
            let length = usize::try_from(length).unwrap();
            let mut both = front[..length].to_vec();
            both.extend_from_slice(back.get(length..).unwrap_or_default());
            prop_assert_eq!(all, recipe(&both, seed));
            prop_assert!(front.len() - length < 4096);
        }
    }

    #[test]
    fn other_blocks_or_seeds_do_not_go_together() {
        let one = recipe(&[1; 9000], 1);
        assert_eq!(one.continued_by(&recipe(&[1; 9000], 2)), None);
        let other = RecipeBuilder::new(8192, 1).finish();
        assert_eq!(one.continued_by(&other), None);
    }
}
