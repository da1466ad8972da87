import doctest
import unittest

import slugs


class SlugTest(unittest.TestCase):
    def test_accents_and_punctuation_go(self):
        self.assertEqual(slugs.slug("  Ünïcode -- & friends! "), "unicode-friends")

    def test_a_long_title_is_cut_at_a_word(self):
        self.assertEqual(slugs.slug("alpha beta gamma", limit=12), "alpha-beta")

    def test_a_long_word_is_cut_where_the_limit_is(self):
        self.assertEqual(slugs.slug("incomprehensibilities", limit=5), "incom")


class UniqueTest(unittest.TestCase):
    def test_counts_up_until_free(self):
        self.assertEqual(slugs.unique("News", {"news", "news-2"}), "news-3")

    def test_an_empty_title_has_a_name(self):
        self.assertEqual(slugs.unique("!!!", set()), "untitled")


def load_tests(loader, tests, pattern):
    tests.addTests(doctest.DocTestSuite(slugs))
    return tests
