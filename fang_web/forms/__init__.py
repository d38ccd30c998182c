"""Makes a form of the class of a task, and a task of what is typed into it, without any script in the page."""

from fang_web.forms.controls import ROOT
from fang_web.forms.fields import Choice, Field
from fang_web.forms.form import Filled, PayloadForm
from fang_web.forms.raw import RawForm

__all__ = ["PayloadForm", "RawForm", "Filled", "Field", "Choice", "ROOT"]
