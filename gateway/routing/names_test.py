from gateway.routing.names import shortest_names


def test_name_is_as_short_as_the_others_allow() -> None:
    names = {"a.v1.Book", "b.v1.Book", "a.v1.Shelf", "a.v1.Shelf.Part", "b.v2.Part"}
    assert shortest_names(names) == {
        "a.v1.Book": "a.v1.Book",
        "b.v1.Book": "b.v1.Book",
        "a.v1.Shelf": "Shelf",
        "a.v1.Shelf.Part": "Shelf.Part",
        "b.v2.Part": "v2.Part",
    }


def test_name_that_is_the_suffix_of_another_is_whole() -> None:
    assert shortest_names({"Book", "a.Book"}) == {"Book": "Book", "a.Book": "a.Book"}
