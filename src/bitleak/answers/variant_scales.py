"""The scale of the answers of a file, which the adversary divides out (`steps.answer_scale`).

Logits with a population have a temperature, fitted to all models of the file. Probabilities and scores with a
population are standardised by the moments of their confidences. Without a population the answers are taken as they
came. If a quantized file is attacked too, both are treated alike: a difference between them is none of treatment.
"""

from dataclasses import dataclass

from bitleak.answers.model_answers import Answers
from bitleak.attacks import ConfidenceMoments, Temperature, fit_temperature
from bitleak.steps.answer_scale import AnswerScale, limit_text


@dataclass(frozen=True)
class VariantScale:
    """Scale of one variant's answers; both None takes them as they came.

    Attributes:
        temperature: Divisor of logits.
        moments: Mean and deviation of confidences.
    """

    temperature: Temperature | None = None
    moments: ConfidenceMoments | None = None

    @property
    def text(self) -> str:
        """The scale in words."""
        if self.temperature is not None:
            return f"temperature {self.temperature.value:.4g}{limit_text(self.temperature.limit)}"
        if self.moments is not None:
            return f"mean {self.moments.mean:.4g}, deviation {self.moments.deviation:.4g}"
        return "as they came"


AS_THEY_CAME = VariantScale()


def scale_of_files(answers: Answers, quantized: Answers | None) -> AnswerScale:
    """Return the scale that all files of a run have."""
    files = [answers] if quantized is None else [answers, quantized]
    if not all(file.population_records for file in files):
        return "raw"
    return "temperature" if all(file.kind == "logits" for file in files) else "standardised"


def file_temperature(answers: Answers) -> VariantScale:
    """Return the temperature of logits that are known to be finite."""
    labels = answers.population_labels
    assert labels is not None  # logits have labels
    return VariantScale(temperature=fit_temperature(answers.population, labels))
