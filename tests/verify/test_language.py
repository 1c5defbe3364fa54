"""Languages: what is told apart, what doesn't count, and what is too little to tell."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.records import VerdictStatus
from open_exaone.verify.language import LANGUAGES, consistency, inconsistent_parts, is_consistent, judge_language, share
from open_exaone.verify.settings import JudgeSettings

KOREAN = (
    "먼저 전체 사과의 수를 구해야 합니다. 처음에 12개가 있었고 5개를 더 샀으므로 17개입니다.",
    "잠깐, 다시 확인해 보자. 두 수의 합이 30이고 차가 4이므로 큰 수는 17이다.",
    "함수 $f(x)=x^3-8x+7$을 미분하면 도함수는 $f'(x)=3x^2-8$이다. 따라서 구하는 값은 4이다.",
    "TCP는 연결을 먼저 맺고, UDP는 연결 없이 데이터를 보냅니다. HTTP 서버는 보통 TCP를 씁니다.",
    "Python에서 list comprehension을 사용하면 for loop보다 빠르게 리스트를 만들 수 있습니다.",
    "Isaac Newton은 중력 법칙을 발견했고, Albert Einstein은 상대성 이론을 발표했습니다.",
    "대한민국(大韓民國)의 수도(首都)는 서울이며, 인구는 약 940만 명입니다.",
    "삼각형 ABC에서 각 A의 크기가 60도이고 변 AB의 길이가 4이면 넓이는 다음과 같다.",
    "그 사람은 도윤입니다.",
    "비밀의 수는 4이다.",
)
ENGLISH = (
    "Let me think. She has 12 apples and buys 5 more, so she has 17 apples in total.",
    "Wait, that is not right. I should divide both sides by 3 first.",
    "The derivative of $f(x)=x^3$ is $3x^2$, hence the slope at 2 is 12.",
    "We have x + y = 30 and x - y = 4, which gives x = 17.",
    "The word 사과 means apple in Korean, and it also means apology.",
    "The tallest person is 유나.",
    "It's a déjà vu: the naïve approach of Poincaré fails here, but the result is the same.",
    "THE ANSWER IS IN CAPITAL LETTERS BECAUSE THE USER ASKED FOR IT.",
    "El Niño is a climate pattern that warms the surface of the Pacific Ocean.",
    "The person is Eve.",
    "We do this step by step.\nBen>Una\nTom>Ben\nTom>Ben>Una>Des>Dan\n3:Una\nSo the answer is Una.",
)
SPANISH = (
    "Primero calculo cuántas manzanas compró Marta en total.",
    "Si al principio había 12 manzanas y compró 5 más, ahora tiene 17.",
    "Un momento, creo que me he equivocado en la suma.",
    "Volvamos a comprobar el resultado antes de responder.",
    "La suma de los ángulos interiores de un triángulo es de 180 grados.",
    "Dividimos ambos lados de la ecuación entre 3 y obtenemos el valor de x.",
    "Por lo tanto, la respuesta final es 42.",
    "El tren sale a las nueve y tarda tres horas en llegar a Sevilla.",
    "Sea n el número de alumnos de la clase; sabemos que n es múltiplo de 7.",
    "Como el discriminante es negativo, la ecuación no tiene soluciones reales.",
    "¿Cuál es la probabilidad de sacar dos bolas rojas seguidas?",
    "Hay 10 bolas en la urna, de las cuales 4 son rojas.",
    "Entonces la probabilidad es 4/10 por 3/9, es decir, 2/15.",
    "Factorizamos el polinomio y buscamos sus raíces.",
    "El área del rectángulo mide 24 metros cuadrados.",
    "Juan tiene el doble de años que su hermana Lucía.",
    "Dentro de cinco años, la edad de Juan será 25.",
    "Planteamos un sistema de dos ecuaciones con dos incógnitas.",
    "Restando la segunda ecuación de la primera, se elimina la y.",
    "Espera, falta considerar el caso en que x vale cero.",
    "Ese caso no cumple la condición, así que lo descartamos.",
    "La derivada de la función se anula en x = 2.",
    "Ahí la función alcanza su mínimo, porque la segunda derivada es positiva.",
    "El precio final, después del descuento del 20 %, es de 64 euros.",
    "Cada caja contiene seis botellas y hay quince cajas.",
    "En total son noventa botellas.",
    "Los números primos menores que diez son 2, 3, 5 y 7.",
    "Su producto es 210.",
    "Supongamos lo contrario: que la raíz de 2 es racional.",
    "Llegamos a una contradicción, por lo que la hipótesis era falsa.",
    "El volumen de una esfera de radio 3 es 36π.",
    "Usaré el teorema de Pitágoras para hallar la hipotenusa.",
    "La velocidad media del coche fue de 80 kilómetros por hora.",
    "Recorrió 240 kilómetros en tres horas.",
    "Necesitamos encontrar el menor entero que cumple las tres condiciones.",
    "Probemos con algunos valores pequeños para ver si aparece un patrón.",
    "Parece que la sucesión crece de dos en dos.",
    "La fotosíntesis convierte la luz del sol en energía química.",
    "Madrid es la capital de España y su ciudad más poblada.",
    "La Revolución francesa empezó en 1789.",
    "El agua hierve a 100 grados al nivel del mar.",
    "Las mitocondrias producen la mayor parte de la energía de la célula.",
    "Cervantes escribió la primera parte del Quijote a principios del siglo XVII.",
    "El algoritmo recorre la lista una sola vez y guarda el máximo visto.",
    "Para instalar el software, abra la terminal y ejecute la orden siguiente.",
    "El machine learning permite reconocer imágenes con gran precisión.",
    "Este bucle termina cuando el contador llega a cero.",
    "La función devuelve una cadena vacía si no encuentra nada.",
    "Ella llegó tarde porque perdió el autobús.",
    "Mañana iremos a la playa si no llueve.",
    "No estoy seguro, pero creo que la opción correcta es la segunda.",
    "Comparemos las dos opciones con más cuidado.",
    "La primera opción queda descartada, ya que contradice el enunciado.",
    "Me quedan 15 euros después de pagar la comida.",
    "Reparto los caramelos entre los cuatro niños: a cada uno le tocan seis.",
    "Hemos visto que la base mide 8 y la altura 5, luego el área es 20.",
    "Los tres amigos pagaron lo mismo por la cena.",
    "Escribo 0,75 como fracción: tres cuartos.",
    "El perímetro del cuadrado es cuatro veces su lado.",
    "Comprobación: 7 por 8 son 56, y 56 más 4 son 60.",
)
MIXED = (  # in none of the three languages throughout
    "먼저 사과의 수를 구합니다. Then we add the five apples that she bought. 따라서 답은 17입니다.",
    "Let me think about the total. 전체 사과의 수는 17개입니다. So we are done with this problem.",
    "이 문제를 풀기 위해 We need to find the derivative of the function and set it to zero.",
    "First we compute the sum. Luego dividimos el resultado entre los tres amigos. The answer is ten.",
    "El tren sale a las nueve y tarda tres horas. So it arrives at noon, and we are done. Por lo tanto, son las doce.",
    "因此 우리는 두 수를 더해야 합니다. 所以答案是十七。",
    "We need to find the total, 所以我们先计算两个数的和, and then we are done.",
    "Сначала посчитаем сумму двух чисел. Then we are done with the first part.",
    "La respuesta es 17. 답은 17입니다. 따라서 모두 17개가 됩니다.",
    "まず全体の数を計算します。 그러면 답은 17입니다.",
)
OTHER = (
    "La somme des angles d'un triangle est égale à 180 degrés, donc nous avons la réponse.",
    "Die Summe der Winkel eines Dreiecks ist 180 Grad, und wir sind fertig.",
    "A soma dos ângulos de um triângulo é 180 graus, então não há mais nada a fazer.",
    "La somma degli angoli di un triangolo è 180 gradi, quindi abbiamo la risposta che cercavamo.",
    "Chúng tôi có thể cải thiện mô hình của mình trong năm sau bằng nhiều cách khác nhau.",
    "三角形的内角和是一百八十度，所以答案是六十。",
    "三角形の内角の和は百八十度なので、答えは六十度です。",
    "Сумма углов треугольника равна ста восьмидесяти градусам.",
)
TEXTS = {"ko": KOREAN, "en": ENGLISH, "es": SPANISH, "mixed": MIXED, "other": OTHER}


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=f"{name}-{i}") for name, texts in TEXTS.items() for i, text in enumerate(texts)]
)
def test_a_text_is_consistent_with_its_own_language_only(text: str) -> None:
    found = [language for language in LANGUAGES if is_consistent(text, language)]
    own = [language for language in LANGUAGES if text in TEXTS[language]]
    assert found == own


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "46",
        "x = 5",
        r"\boxed{46}",
        "$x^2 + y^2 = z^2$",
        "유나",
        "46입니다.",
        "Ann",
        "`print(1)`",
        "https://example.org/the/answer",
        "DNA",
    ],
)
def test_too_little_to_tell_is_consistent_with_every_language(text: str, language: str) -> None:
    assert share(text, language) == 1.0


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "part",
    [
        "```python\n# we are in the middle of the loop, and this is a comment\nfor i in the_list: pass\n```",
        "```\n# 이것은 주석입니다. 여기서 값을 더합니다.\n# el valor de la suma\n```",
        "`the value of this`",
        r"$\text{the sum of all the numbers that are even}$",
        "$$\n\\text{두 수의 합을 구합니다}\n$$",
        r"\(\text{for all } x\) \[\text{la suma de los números}\]",
        "\\begin{align}\\text{if and only if this is so}\\end{align}",
        r"\boxed{\text{the answer of the 문제는 이것입니다}}",
        "https://example.org/this/is/the/answer/to/that",
        '<tool_call>{"name": "search", "arguments": {"query": "what is the sum of the numbers"}}</tool_call>',
        "x1 a_n 3D 1,234.5",
    ],
)
def test_what_is_not_language_does_not_count(part: str, language: str) -> None:
    for text in TEXTS[language][:3]:
        assert share(f"{text}\n{part}\n{text}", language) == share(f"{text}\n\n{text}", language)


def test_a_fence_that_never_closes_hides_nothing() -> None:
    assert not is_consistent(
        "답은 17입니다.\n```\nThe answer is that we are done with the sum of all the numbers.", "ko"
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_share_falls_with_every_sentence_of_another_language(language: str) -> None:
    others = {"ko": ENGLISH, "en": SPANISH, "es": KOREAN}[language]
    shares = [share("\n".join((*TEXTS[language][:3], *others[:count])), language) for count in range(6)]
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True) and len(set(shares)) == 6


def test_decomposed_hangul_is_hangul() -> None:
    import unicodedata

    assert share(unicodedata.normalize("NFD", KOREAN[0]), "ko") == share(KOREAN[0], "ko") == 1.0


def test_a_term_with_a_korean_particle_is_no_prose_of_another_language() -> None:
    assert is_consistent("이 문제를 step by step으로 풀어 봅시다. API를 호출합니다.", "ko")


def test_thought_and_answer_both_count() -> None:
    assert consistency(KOREAN[0], KOREAN[1], "ko") == 1.0
    assert consistency(ENGLISH[0], KOREAN[1], "ko") == 0.0
    assert inconsistent_parts(ENGLISH[0], KOREAN[1], "ko") == ("thought",)
    assert inconsistent_parts(KOREAN[0], ENGLISH[0], "ko") == ("answer",)
    assert inconsistent_parts("", r"\boxed{46}", "ko") == ()


def test_the_verdict_says_which_part_is_in_another_language() -> None:
    settings = JudgeSettings()
    assert judge_language(KOREAN[0], "ko", {}, settings).status is VerdictStatus.CORRECT
    assert judge_language(KOREAN[0], "ko", {"thought": KOREAN[1]}, settings).status is VerdictStatus.CORRECT
    verdict = judge_language(KOREAN[0], "ko", {"thought": ENGLISH[0]}, settings)
    assert verdict.status is VerdictStatus.WRONG
    assert verdict.why == "The reply must be in Korean, but only 0% of the thought is."


def test_unknown_languages_and_broken_thoughts_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="language 'fr': must be one of ko, en, es"):
        share("text", "fr")
    with pytest.raises(ValueError, match="gold 'French': must be one of the languages ko, en, es"):
        judge_language("text", "French", {}, JudgeSettings())
    with pytest.raises(ValueError, match="metadata 'thought': must be a text, not 5"):
        judge_language("text", "ko", {"thought": 5}, JudgeSettings())


@given(st.text() | st.text(alphabet="`$\\()[]{}<>~ab가 \n"), st.sampled_from(LANGUAGES))
def test_no_text_makes_it_raise(text: str, language: str) -> None:
    assert 0.0 <= share(text, language) <= 1.0


@pytest.mark.parametrize(
    "piece",
    [
        "`",
        "```",
        "~~~a",
        "$",
        "$a",
        "$$a",
        "\\(",
        "\\[",
        "\\begin{a}",
        "\\boxed{",
        "\\boxed{{}",
        "<tool_call>",
        "a",
        "가",
        "a가",
        "_a",
        "0",
        "http://",
        "the ",
        "(大",
        ".",
        "!?",
    ],
)
def test_ten_megabytes_cost_linear_time(piece: str) -> None:
    start = time.process_time()
    share(piece * (10_000_000 // len(piece)), "ko")
    assert time.process_time() - start < 5.0  # quadratic would take hours


def test_a_list_of_names_is_in_no_language_whatever_they_mean_elsewhere() -> None:
    """Una is an article in Spanish, Das one in German."""
    for names in ("Una>Ben\nTom>Una>Das>Eve", "Wes>Tom\nUna>Wes\nUna>Wes>Tom\n2:Wes"):
        assert all(share(names, language) == 1 for language in ("en", "es"))
    assert share("una manzana roja\nJuan come una pera", "en") == 0
    assert share("Una manzana roja\nLa pera verde", "en") == 0  # a sentence begins so too
