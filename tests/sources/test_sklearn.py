"""scikit-learn's estimators, pipelines and tables become proven ONNX, or one clear line."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from onnxpress import api
from onnxpress.errors import InputError, MissingExtra, OnnxpressError, SourceError
from onnxpress.source import OpenOptions, open_source
from onnxpress.sources._sklearn import converters
from onnxpress.sources.sklearn import Sklearn
from onnxpress.trees.forest import Forest, step
from onnxpress.verbs.convert import Converted
from zoo.tabular import DIABETES, WINE, answers, holes, outputs

X, Y = WINE
LABELS = np.array(["red", "white", "grey"])[Y]


def proven(model: object, exporter: str = "") -> Converted:
    result = api.convert(model)
    assert result.verified is not None
    assert result.verified.ok, str(result.verified.first_mismatch)
    assert exporter in ("", result.exporter)
    return result


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (HistGradientBoostingClassifier, {"max_iter": 5}),
        (DecisionTreeClassifier, {}),
        (RandomForestClassifier, {"n_estimators": 9}),
        (ExtraTreesClassifier, {"n_estimators": 9}),
        (GradientBoostingClassifier, {"n_estimators": 5}),
    ],
)
def test_classifiers_of_trees(kind: type, more: dict, missing: bool) -> None:
    rng = np.random.default_rng(len(kind.__name__))
    depth = int(rng.integers(2, 8))
    missing = missing and kind is not GradientBoostingClassifier
    for target in (Y, LABELS, Y > 0):
        model = kind(max_depth=depth, random_state=0, **more)
        result = proven(model.fit(holes(X) if missing else X, target), "trees")
        assert [s.name for s in result.model.signature.outputs] == ["label", "probabilities"]


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "gamma", "absolute_error"])
def test_histogram_losses(loss: str) -> None:
    model = HistGradientBoostingRegressor(loss=loss, max_iter=7).fit(
        holes(DIABETES[0]), DIABETES[1]
    )
    result = proven(model, "trees")
    assert [s.name for s in result.model.signature.outputs] == ["prediction"]


@pytest.mark.parametrize("kind", ["regressor", "classifier", "pipeline"])
def test_histograms_of_tables_with_two_decimals(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    x, rows = (holes(rng.normal(size=(2000, 3)).round(2), seed) for seed in (1, 2))
    y = 3 * np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) ** 2
    model: object = HistGradientBoostingRegressor(max_iter=20)
    if kind == "pipeline":
        through = ColumnTransformer([("all", "passthrough", [0, 1, 2])])
        model = make_pipeline(through, model)
    if kind == "classifier":
        model, y = (
            HistGradientBoostingClassifier(max_iter=20),
            np.unique(LABELS)[(y > 1) + (y > 2) * 1],
        )
    converted = proven(model.fit(x, y)).model
    *_, numbers = outputs(converted, rows)
    ask = model.predict_proba if kind == "classifier" else model.predict
    assert np.abs(numbers - ask(rows).reshape(numbers.shape)).max() < 1e-5
    # The reference, which quality is measured against, is asked about the table's cells too.
    with open_source(model) as origin, origin.session() as session:
        asked = list(session.run({"X": rows.astype(np.float32)}).values())[-1]
    assert np.abs(asked - ask(rows).reshape(numbers.shape)).max() < 1e-5
    # Plain rounding of the table takes other branches, or this test could not fail.
    plain = ask(rows.astype(np.float32)).reshape(numbers.shape)
    assert (np.abs(plain - numbers).max(axis=1) > 1e-3).mean() > 0.05


def test_a_shifted_threshold_of_a_histogram_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1000, 2)).round(2)
    model = HistGradientBoostingRegressor(max_iter=1).fit(x, x[:, 0] + x[:, 1] ** 2)
    real = converters.reader_of(model)

    def shifted(towards: float) -> Forest:
        forest = real(model)
        first = forest.trees[0][0]
        test = dataclasses.replace(first.tests[0], value=step(first.tests[0].value, towards))
        root = dataclasses.replace(first, tests=(test,))
        return dataclasses.replace(forest, trees=((root, *forest.trees[0][1:]),))

    for towards in (-np.inf, np.inf):
        wrong = shifted(towards)
        monkeypatch.setattr(
            "onnxpress.sources._sklearn.origin.reader_of", lambda _, wrong=wrong: lambda _: wrong
        )
        result = api.convert(model)
        assert result.verified is not None
        assert not result.verified.ok


def of_seconds() -> tuple[np.ndarray, np.ndarray]:
    """A column of seconds since 1970, of which float32 holds every 128th, and a label of them."""
    rng = np.random.default_rng(0)
    x = np.c_[rng.normal(size=600), 1.7e9 + rng.integers(0, 1000, 600)]
    return x, (x[:, 1] > 1.7e9 + 500) * 1


@pytest.mark.parametrize("form", ["alone", "frame", "pipeline", "passed"])
def test_thresholds_that_float32_cannot_tell_apart_are_refused(form: str) -> None:
    x, y = of_seconds()
    model = HistGradientBoostingClassifier(max_iter=10)
    name = "feature 1 of HistGradientBoostingClassifier"
    table: object = x
    if form == "frame":
        table, name = pd.DataFrame(x, columns=["x", "ts"]), "column 'ts'"
    if form == "pipeline":
        model = make_pipeline(SimpleImputer(), model)
    if form == "passed":
        model = make_pipeline(ColumnTransformer([("kept", "passthrough", [0, 1])]), model)
    with pytest.raises(SourceError, match=f"^{name} has numbers .*offset from it") as caught:
        api.convert(model.fit(table, y))
    assert "\n" not in str(caught.value)
    x[:, 1] -= 1.7e9
    proven(model.fit(x, y))


@pytest.mark.parametrize("kind", [DecisionTreeClassifier, GradientBoostingClassifier])
def test_large_numbers_are_float32_in_the_originals_too(kind: type) -> None:
    x, y = of_seconds()
    model = kind(random_state=0).fit(x, y)
    labels, numbers = outputs(proven(model).model, x)
    assert (labels == model.predict(x)).all()
    assert np.abs(numbers - model.predict_proba(x)).max() < 1e-6


@pytest.mark.parametrize("categories", [3, 40, 200])
def test_histogram_categories(categories: int) -> None:
    rng = np.random.default_rng(categories)
    x = DIABETES[0].copy()
    x[:, 2] = rng.integers(-2, categories, len(x))
    y = DIABETES[1] + 40 * (x[:, 2] % 3)
    model = HistGradientBoostingRegressor(categorical_features=[2], max_iter=6, max_leaf_nodes=9)
    proven(model.fit(holes(x), y), "trees")


@pytest.mark.parametrize(
    "model",
    [
        RandomForestRegressor(6, random_state=0),
        DecisionTreeRegressor(random_state=0),
        GradientBoostingRegressor(n_estimators=5, random_state=0),
        make_pipeline(StandardScaler(), HistGradientBoostingRegressor(max_iter=4)),
        make_pipeline(StandardScaler(), Ridge()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_regressors(model: object) -> None:
    proven(model.fit(*DIABETES))  # type: ignore[attr-defined]  # an estimator


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(max_iter=2000),
        SVC(),
        LinearSVC(),
        BaggingClassifier(n_estimators=3, random_state=0),
        CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=3)),
        VotingClassifier(
            [("a", HistGradientBoostingClassifier(max_iter=3)), ("b", LogisticRegression())],
            voting="soft",
        ),
        StackingClassifier([("a", HistGradientBoostingClassifier(max_iter=3))]),
        AdaBoostClassifier(n_estimators=3, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_classifiers_in_pipelines(model: object) -> None:
    result = proven(make_pipeline(StandardScaler(), model).fit(X, LABELS), "skl2onnx")
    assert result.model.signature.outputs[0].dtype == "object"


TWO = [("a", DecisionTreeClassifier(max_depth=2)), ("b", GaussianNB())]
WEIGHED = VotingClassifier(TWO, voting="soft", weights=[1, 2])


@pytest.mark.parametrize(
    "model",
    [
        WEIGHED,
        VotingClassifier(TWO, weights=(1, 2)),
        VotingClassifier([("c", WEIGHED), ("d", GaussianNB())], voting="soft", weights=[1, 3]),
        StackingClassifier([("c", WEIGHED)], cv=2),
        GridSearchCV(WEIGHED, {"weights": [[1, 2]]}, cv=2),
    ],
    ids=str,
)
def test_weighed_votes(model: object) -> None:
    """Lists of weights, wherever they stand."""
    proven(model.fit(X, LABELS), "skl2onnx")  # type: ignore[attr-defined]  # an estimator


def test_weighed_means() -> None:
    members = [("a", DecisionTreeRegressor(max_depth=3)), ("b", Ridge())]
    proven(VotingRegressor(members, weights=[1, 3]).fit(*DIABETES), "skl2onnx")


@pytest.mark.parametrize("target", [Y, LABELS, Y * 3 - 1], ids=["places", "words", "numbers"])
@pytest.mark.parametrize(
    "model",
    [QuadraticDiscriminantAnalysis(), OneVsOneClassifier(LogisticRegression(max_iter=300))],
    ids=lambda model: type(model).__name__,
)
def test_labels_are_one_for_each_row(model: object, target: np.ndarray) -> None:
    pipeline = make_pipeline(StandardScaler(), model).fit(X, target)
    label, *_ = outputs(proven(pipeline).model, X)
    assert (label == pipeline.predict(X)).all()


def test_other_kinds() -> None:
    assert proven(make_pipeline(StandardScaler(), PCA(3)).fit(X)).model.signature.outputs[
        0
    ].shape == ("batch", 3)
    proven(IsolationForest(n_estimators=5, random_state=0).fit(X))
    proven(RandomForestRegressor(4).fit(X, np.stack([Y, Y + 1], 1)), "trees")


def table(rows: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 10, rows),
            "income": rng.lognormal(3, 1, rows),
            "city": rng.choice(["Bern", "Genf", "Ulm"], rows),
            "size": rng.choice([1, 2, 3], rows),
            "label": rng.normal(size=rows),
            "words": rng.choice(["good and cheap", "bad", "very bad and dear"], rows),
            "unused": 1,
        }
    )
    frame.loc[::7, "age"] = np.nan
    return frame, ((frame.income > 20) ^ (frame.city == "Ulm")).to_numpy().astype(int)


ORDINARY = ("the", "and", "ve", "na", "we", "über", "café", "new", "york")


class TestTables:
    def test_numbers_categories_and_text(self) -> None:
        frame, target = table()
        columns = ColumnTransformer(
            [
                ("number", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
                ("word", OneHotEncoder(handle_unknown="ignore"), ["city"]),
                ("code", OneHotEncoder(handle_unknown="ignore"), ["size"]),
                ("text", TfidfVectorizer(), "words"),
                ("rest", "passthrough", ["label"]),
            ]
        )
        result = proven(make_pipeline(columns, LogisticRegression()).fit(frame, target))
        inputs = {s.name: (s.dtype, s.shape) for s in result.model.signature.inputs}
        dtypes = {"city": "object", "words": "object", "size": "int64"}
        assert inputs == {
            name: (dtypes.get(name, "float32"), ("batch", 1))
            for name in ("age", "income", "city", "size", "label", "words")
        }
        assert [s.name for s in result.model.signature.outputs] == ["label_1", "probabilities"]
        assert result.verified is not None
        # Random batches, the example, then unseen and missing values where the model takes them.
        assert len(result.verified.cases) > 6

    @pytest.mark.parametrize("unknown", [-1, np.nan])
    def test_histograms_behind_an_encoder(self, unknown: float) -> None:
        frame, target = table()
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=unknown)
        columns = ColumnTransformer(
            [("word", encoder, ["city"]), ("number", "passthrough", ["age", "income"])]
        )
        model = HistGradientBoostingClassifier(categorical_features=[0], max_iter=9)
        proven(make_pipeline(columns, model).fit(frame, target), "skl2onnx")

    def test_histograms_on_a_frame_with_categories(self) -> None:
        frame, target = table()
        frame = frame[["age", "income", "city"]].assign(city=frame.city.astype("category"))
        result = proven(HistGradientBoostingClassifier(max_iter=9).fit(frame, target), "trees")
        assert [s.dtype for s in result.model.signature.inputs] == ["float32", "float32", "object"]

    def test_text_alone(self) -> None:
        frame, target = table()
        proven(make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(frame.words, target))

    @pytest.mark.parametrize(
        "vectorizer",
        [
            TfidfVectorizer(),
            TfidfVectorizer(ngram_range=(1, 2), stop_words="english"),
            CountVectorizer(ngram_range=(2, 3), stop_words=["the", "and"], lowercase=False),
            CountVectorizer(ngram_range=(1, 3), min_df=20, binary=True),
            TfidfVectorizer(analyzer="char", ngram_range=(1, 3)),
            TfidfVectorizer(token_pattern=r"\b[a-z]{3,}\b"),
            TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 2)),
            TfidfVectorizer(token_pattern=r"[\w'-]+", sublinear_tf=True),
            TfidfVectorizer(token_pattern=r"\S+", max_features=50),
        ],
        ids=str,
    )
    def test_texts_are_taken_apart_alike(self, vectorizer: CountVectorizer) -> None:
        """Texts that the conversion did not try; of one and of several rows."""
        rng = np.random.default_rng(0)
        words = [f"word{i}" for i in range(99)] + list(ORDINARY)
        texts = [" ".join(rng.choice(words, 8)) for _ in range(300)]
        target = [len({"ve", "na", "word7", "über"} & set(text.split())) > 0 for text in texts]
        model = make_pipeline(vectorizer, LogisticRegression(C=50)).fit(texts, target)
        converted = proven(model).model
        asked = [
            "We've word1 great", "naïve word7", "NAÏVE, ÜBER!", "re-do word3_ve", "", "  ", "x y",
            "word1\nword7\tve", "word1  word7\u00a0\u00a0ve", "ve.na", "na，ve", "日本語 café",
            "new the york and  new york", "the", "12 ３ x² foo_bar word44",
        ]  # fmt: skip
        expected = model.predict_proba(asked)
        for rows in (slice(None), *(slice(i, i + 1) for i in range(len(asked)))):
            _, found = answers(converted, {"X": np.array(asked[rows], object)[:, None]})
            assert np.abs(found - expected[rows]).max() < 1e-5, asked[rows]

    def test_a_union_of_texts(self) -> None:
        frame, target = table()
        union = make_union(TfidfVectorizer(), CountVectorizer(analyzer="char"))
        proven(make_pipeline(union, LogisticRegression()).fit(frame.words, target), "skl2onnx")

    @pytest.mark.parametrize(
        ("vectorizer", "told"),
        [
            (TfidfVectorizer(analyzer="char_wb"), "analyzer='char_wb'"),
            (TfidfVectorizer(strip_accents="ascii"), "strip_accents='ascii'"),
            (TfidfVectorizer(tokenizer=str.split, token_pattern=None), "function as its tokenizer"),
            (TfidfVectorizer(token_pattern=r"\b[a-z]+\b", ngram_range=(1, 2)), "n-grams of it"),
            (TfidfVectorizer(token_pattern=r"ab|a"), r"'\|' has no equal"),
            (TfidfVectorizer(token_pattern=r"\b\S+\b"), r"'\\b' has no equal"),
            (TfidfVectorizer(token_pattern=r"[\W\d]+"), r"in brackets has no equal"),
        ],
    )
    def test_texts_that_onnx_cannot_take_apart(
        self, vectorizer: TfidfVectorizer, told: str
    ) -> None:
        frame, target = table()
        texts = frame.words + " a1 !"
        with pytest.raises(SourceError, match=told):
            api.convert(make_pipeline(vectorizer, LogisticRegression()).fit(texts, target))

    @pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
    def test_other_libraries_in_pipelines(self, package: str) -> None:
        frame, target = table()
        library = pytest.importorskip(package)
        kind = {"xgboost": "XGBClassifier", "lightgbm": "LGBMClassifier"}[package]
        model = getattr(library, kind)(n_estimators=4, verbosity=0 if package == "xgboost" else -1)
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        columns = ColumnTransformer(
            [("word", encoder, ["city"]), ("number", "passthrough", ["age", "income"])]
        )
        proven(make_pipeline(columns, model).fit(frame, target))


class TestFiles:
    def test_skops_with_trees_inside(self, tmp_path: Path) -> None:
        model = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=3))
        skops.io.dump(model.fit(X, LABELS), tmp_path / "m.skops")
        proven(str(tmp_path / "m.skops"))

    def test_skops_with_an_imputer_needs_no_trust(self, tmp_path: Path) -> None:
        x = (X - X.mean(0)) / X.std(0)
        model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(holes(x), LABELS)
        skops.io.dump(model, tmp_path / "m.skops")
        assert skops.io.get_untrusted_types(file=tmp_path / "m.skops") == ["numpy.dtype"]
        converted = proven(str(tmp_path / "m.skops")).model
        rows = holes(x + 0.5, seed=7, share=0.3)
        label, probabilities = outputs(converted, rows)
        assert (label == model.predict(rows)).all()
        assert np.abs(probabilities - model.predict_proba(rows)).max() < 1e-5

    def test_skops_with_strangers_is_refused_and_names_them(self, tmp_path: Path) -> None:
        model = make_pipeline(FunctionTransformer(np.sinc), Ridge()).fit(*DIABETES)
        model.steps.insert(0, ("odd", FunctionTransformer(joblib.hash)))
        skops.io.dump(model, tmp_path / "m.skops")
        with pytest.raises(SourceError, match=r"holds .*joblib.*--trust"):
            open_source(str(tmp_path / "m.skops"))

    @pytest.mark.parametrize("name", ["m.pkl", "m.joblib"])
    def test_pickles_need_trust(self, tmp_path: Path, name: str) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[object, tuple[Path]]:
                return (Path.touch, (tmp_path / "exploded",))

        joblib.dump(Bomb(), tmp_path / name)
        with pytest.raises(InputError, match=r"is a pickle, which runs any code.*--trust"):
            open_source(str(tmp_path / name))
        assert not (tmp_path / "exploded").exists()
        joblib.dump(DecisionTreeClassifier().fit(X, Y), tmp_path / name)
        with open_source(str(tmp_path / name), OpenOptions(trust=True)) as opened:
            assert opened.kind == "sklearn"

    def test_what_is_no_model_is_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        skops.io.dump(Ridge().fit(*DIABETES), tmp_path / "m.skops")
        whole = (tmp_path / "m.skops").read_bytes()
        for cut in (0, 10, len(whole) // 2):
            (tmp_path / "cut.skops").write_bytes(whole[:cut])
            with pytest.raises(SourceError, match="cannot be read") as caught:
                open_source(str(tmp_path / "cut.skops"))
            assert "\n" not in str(caught.value)
        skops.io.dump([1, 2], tmp_path / "list.skops")
        with pytest.raises(SourceError, match="holds a list"):
            open_source(str(tmp_path / "list.skops"))
        with pytest.raises(OnnxpressError, match="not fitted"):
            open_source(Ridge())
        with pytest.raises(InputError, match=f"^{tmp_path} is no file; expected a .skops"):
            open_source(f"sklearn:{tmp_path}")
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingExtra, match=r"onnxpress\[sklearn\]"):
            Sklearn().open(str(tmp_path / "m.skops"), OpenOptions())
