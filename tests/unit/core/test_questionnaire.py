# SPDX-License-Identifier: Apache-2.0
import pytest
import yaml

from weir.questionnaire import AREAS, MEANINGS, MOST, QUESTIONS, SCHEME, empty_document, score_of


def test_weights_add_up_to_a_hundred_and_every_area_is_asked() -> None:
    assert sum(question.weight for question in QUESTIONS) == 100
    assert {question.area for question in QUESTIONS} == set(AREAS)
    assert len({question.id for question in QUESTIONS}) == len(QUESTIONS) == 15


@pytest.mark.parametrize(("answer", "score"), [(0, 0), (1, 33), (2, 66), (3, 100)])
def test_the_score_is_the_weighted_share_rounded_down(answer: int, score: int) -> None:
    assert score_of({question.id: answer for question in QUESTIONS}) == score


def test_one_better_answer_moves_the_score_by_its_weight() -> None:
    answers = {question.id: 0 for question in QUESTIONS}
    for question in QUESTIONS:
        assert score_of(answers | {question.id: MOST}) == question.weight


def test_a_question_left_out_has_no_score() -> None:
    with pytest.raises(KeyError):
        score_of({question.id: 3 for question in QUESTIONS[1:]})


@pytest.mark.parametrize("language", MEANINGS)
def test_the_empty_document_asks_every_question_and_answers_none(language: str) -> None:
    text = empty_document(language=language)
    content = yaml.safe_load(text)
    assert (content["kind"], content["scheme"]) == ("assessment", SCHEME)
    assert [item["question"] for item in content["answers"]] == [question.id for question in QUESTIONS]
    assert {item["answer"] for item in content["answers"]} == {None}
    assert all((question.zh if language == "zh" else question.en) in text for question in QUESTIONS)
